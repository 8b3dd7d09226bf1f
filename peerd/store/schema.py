"""The tables, as migrations: each brings a database from one version to the next and is never edited afterwards."""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE round (id INTEGER PRIMARY KEY AUTOINCREMENT, round INTEGER UNIQUE NOT NULL, body BLOB NOT NULL)",
        "CREATE TABLE peer (peer TEXT PRIMARY KEY, addresses TEXT NOT NULL, last_good_unix REAL NOT NULL)",
        """CREATE TABLE seen (id INTEGER PRIMARY KEY AUTOINCREMENT, peer TEXT UNIQUE NOT NULL,
           epoch INTEGER NOT NULL, sequence INTEGER NOT NULL)""",
        """CREATE TABLE refusal (peer TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
           PRIMARY KEY (peer, reason)) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE ban (peer TEXT PRIMARY KEY, until_unix REAL NOT NULL, seconds REAL NOT NULL,
           bans INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID""",
    ),
    (
        "CREATE TABLE publication (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)",
        """CREATE TABLE sent (round INTEGER NOT NULL, peer TEXT NOT NULL, own INTEGER NOT NULL,
           passed_on INTEGER NOT NULL, gossip INTEGER NOT NULL, last_unix REAL NOT NULL,
           PRIMARY KEY (round, peer)) WITHOUT ROWID""",
    ),
    ("ALTER TABLE peer ADD COLUMN proven TEXT NOT NULL DEFAULT ''",),
)
VERSION = len(MIGRATIONS)
