"""Opening the database: refuse what is newer, set aside what is damaged, bring up to date what is older.

A damaged database is renamed to `.bak` for whoever wants to look into it; a few such are kept.

    written by a newer peerd ---> refused, untouched: looked at without SQLite, which would tidy up its log
    empty, damaged, no database -> moved aside with its log, a new one begun, and a person told
    absent, but with a log -----> the log moved aside: it would be taken for that of the new one
    older ----------------------> migrated, a transaction for each version
    the disk refuses -----------> StoreError; it is no damage, and nothing is moved

A new database is made under another name and renamed, so that a crash in the middle leaves none.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from p2pfinetune.system.durable import settle
from peerd.errors import StoreError
from peerd.machine.faults import around
from peerd.machine.unfit import lacks
from peerd.store.checksum import sealed, unsealed
from peerd.store.limits import MAX_BACKUPS
from peerd.store.schema import MIGRATIONS, VERSION

DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
MAGIC = b"SQLite format 3\0"
PLAUSIBLE_VERSION = 99  # beyond, it is no newer peerd but a damaged header
VERSION_OFFSET = 60  # of user_version in the file's header, four bytes, big-endian; sqlite.org/fileformat.html
SIDE_FILES = ("-wal", "-shm")


def open_database(path: Path, epoch: int) -> tuple[sqlite3.Connection, str]:
    """The connection, and a sentence for people about what had to be set aside ("" if all was well)."""
    _refuse_newer(path)
    notice = ""
    try:
        if path.exists() and (damage := _damage(path)):
            moved = _set_aside(path)
            notice = f"the database {path} was damaged ({damage}); it was moved to {moved} and a new one was begun"
        if not path.exists():
            if any(path.with_name(path.name + suffix).exists() for suffix in SIDE_FILES):
                _set_aside(path)  # a log without its database would be taken for that of the new one
            _create(path, epoch)
        connection = _connect(path)
        _migrate(connection, epoch)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.Error) and (unfit := lacks(path.parent, "locks or shared memory", error)):
            raise unfit from error
        raise StoreError(f"cannot open the database {path}: {error}", advice(error)) from error
    return connection, notice


def _create(path: Path, epoch: int) -> None:
    """Whole or not at all: an empty one would look damaged to the next start."""
    fresh = path.with_name(path.name + ".new")
    with around("database.create"):
        for left in (fresh, *(fresh.with_name(fresh.name + suffix) for suffix in SIDE_FILES)):
            left.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
    connection = _connect(fresh)
    try:
        _migrate(connection, epoch)
    finally:
        connection.close()
    with around("database.rename"):
        settle(fresh, path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
    connection.text_factory = lambda text: text.decode(errors="replace")  # a flipped bit in a name is no reason to stop
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # a commit is on disk when it returns, power cut included
    return connection


def _refuse_newer(path: Path) -> None:
    """Look without opening for writing, since SQLite would tidy up its log in a file that is not ours to touch."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"cannot read the database {path}: {error}", advice(error)) from error
    if not header.startswith(MAGIC):
        return
    version = max(int.from_bytes(header[VERSION_OFFSET : VERSION_OFFSET + 4], "big"), _version_in_log(path))
    if version <= VERSION or version > PLAUSIBLE_VERSION:
        return
    raise StoreError(
        f"{path} was written by a newer peerd (format {version}, this one knows {VERSION}); it is left untouched",
        "upgrade peerd, or use another --home",
    )


def _version_in_log(path: Path) -> int:
    """The version as of the write-ahead log, if there is one; whatever else is wrong shows later."""
    log = path.with_name(path.name + "-wal")
    if not log.exists() or not log.stat().st_size:
        return 0
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return 0
    finally:
        connection.close()


def _damage(path: Path) -> str:
    """What is wrong with the file; "" if nothing is. Disk trouble is no damage and is raised."""
    if path.stat().st_size == 0:
        return "it is empty"
    connection = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)  # as it was found
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        bodies = [row[0] for row in connection.execute("SELECT body FROM document")] if version else []
    except sqlite3.Error as error:
        if _code(error) in DAMAGED or "no such table" in str(error):
            return str(error)
        raise StoreError(f"cannot open the database {path}: {error}", advice(error)) from error
    finally:
        if connection is not None:
            connection.close()
    if verdict != "ok":
        return str(verdict)
    if version > VERSION or (tables and not version):
        return f"it says it is of format {version}"
    return "a checksum is wrong" if any(unsealed(body) is None for body in bodies) else ""


def _set_aside(path: Path) -> Path:
    names = [f"{path.name}.bak", *(f"{path.name}.bak{number}" for number in range(2, MAX_BACKUPS + 1))]
    moved = next((found for name in names if not (found := path.with_name(name)).exists()), path.with_name(names[-1]))
    for suffix in ("", *SIDE_FILES):
        part = path.with_name(path.name + suffix)
        with around("database.aside"):
            moved.with_name(moved.name + suffix).unlink(missing_ok=True)
            if part.exists():
                part.replace(moved.with_name(moved.name + suffix))
    return moved


def _migrate(connection: sqlite3.Connection, epoch: int) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        with around("database.migrate.begin"):
            connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        if number == 1:
            connection.execute(
                "INSERT INTO document VALUES ('sequence', ?)", (sealed(msgspec.json.encode((epoch, 0))),)
            )
        connection.execute(f"PRAGMA user_version = {number}")
        with around("database.migrate.commit"):
            connection.execute("COMMIT")
    with around("database.tidy"):  # the version then stands in the file's header, for older programs
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def advice(error: sqlite3.Error | OSError) -> str:
    """The next thing to do about disk trouble."""
    if isinstance(error, sqlite3.Error):
        match _code(error):
            case sqlite3.SQLITE_FULL:
                return "free some disk space and start again"
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return "another program has the database open; stop it and start again"
            case code if code in DAMAGED:
                return "start again: a damaged database is moved aside by itself"
            case _:
                return "look at the rights and the free space of that folder"
    return "look at the rights and the free space of that folder"
