"""What the daemon keeps on disk, behind one port (`port.py`): rows in SQLite, blobs as files.

    port         what is promised; `sqlite` + `blobs` keep it on disk, `peerd.testing.store` in memory (one suite)
    sqlite       rows: round records, peers, newest orders, bans, what was sent
    blobs        bytes by their digest: updates, checkpoints
    generations  the little that training cannot go on without, a second time and beside the blobs

Three kinds of loss are planned for. A *crash or power cut*: a commit is synced before it is spoken of, and a file is
renamed into place whole. *Damage* (flipped bits, a truncated file): rows and blobs have checksums; what fails its own
is set aside, said, and the generation before is used. A *copy* (a restored backup, a cloned machine): each opening
begins an epoch above all that are known, so numbers are never given twice.
"""
