"""What the daemon keeps on disk: rows in SQLite, blobs as files; and fakes of both. See `_port`."""
