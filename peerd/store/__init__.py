"""What the daemon keeps on disk, behind one port (`port.py`): rows in SQLite, blobs as files."""
