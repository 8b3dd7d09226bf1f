"""Rows on disk: one SQLite file, write-ahead log, every commit synced. Bounded in whatever strangers can cause.

Calls may come from any thread, one at a time. Disk trouble raises StoreError and leaves the former state readable.

Write-ahead logging (sqlite.org/wal.html) with `synchronous=FULL`: a commit is on disk when it returns. Each method is
one transaction, so a row and what belongs to it (a checkpoint and its round, an announcement and what it spends) are
there together or not at all.

Checkpoint, announcement, rounds and publications are JSON behind a CRC-32 (`checksum`): a new field is no migration,
and a flipped bit is found when the row is read. What there is one of stands in a table of (name, body), and damage in
it is an error; a round or a publication that is damaged is history, and left out. Rows about peers are plain columns.

Every table that strangers can make grow is cut in the transaction that adds to it, by what is least worth keeping.
"""

# What each method promises stands in `peerd.store.port`; here, only what is particular to this back end.

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.names import PeerId
from peerd.errors import StoreError
from peerd.machine.faults import around
from peerd.store.checksum import sealed, unsealed
from peerd.store.limits import (
    MAX_BANS,
    MAX_PEERS,
    MAX_REASON,
    MAX_REASONS,
    MAX_REFUSED_PEERS,
    MAX_ROUNDS,
    MAX_SEEN,
    SEQUENCE_BLOCK,
)
from peerd.store.opening import advice, open_database
from peerd.store.port import Checkpoint, KeptBan, KnownPeer
from peerd.store.rounds import StoredRound
from peerd.store.sent import MAX_PUBLICATIONS, MAX_SENT_ROWS, Publication, SentBytes, Spending, entered

Kept = TypeVar("Kept")
UNFIT = (OverflowError, UnicodeError)
"""What SQLite says of a value that it has no room for: more than 64 bits, or half of a surrogate pair."""


class SqliteStore:
    """The store of one home. Each opening begins an epoch: `epoch`, or one more than the last if that is not less.

    So a home that was restored from a copy goes on above all that it said before, though it has forgotten it.
    `after` is what was reserved last, as somebody else remembers it: a database that knows less has lost its latest
    commits (its log is gone), and would give numbers a second time.
    """

    def __init__(self, path: Path, *, epoch: int, after: tuple[int, int] = (0, 0)) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection, self.notice = open_database(path, epoch)
        try:
            numbers = self._decoded("sequence", tuple[int, int]) or (epoch, 0)
            last = max(numbers, after)
            self.said_before = last
            self._epoch = max(epoch, last[0] + (last[1] > 0))
            if numbers < after:
                self._save_document("sequence", msgspec.json.encode((self._epoch, 0)))
                self.notice = self.notice or f"the database {path} is new, or has lost its latest rows with its log"
        except StoreError:
            self._connection.close()
            raise
        self._limit = self._next = 0  # reserved on disk, and given last; the first number writes the epoch

    def reserve_sequence(self) -> tuple[int, int]:
        with self._lock:
            if self._next >= self._limit:
                reserved = self._limit + SEQUENCE_BLOCK
                self._save_document("sequence", msgspec.json.encode((self._epoch, reserved)))
                self._limit = reserved
            self._next += 1
            return self._epoch, self._next

    def reserved(self) -> tuple[int, int]:
        return self._epoch, self._limit

    def save_announcement(
        self, envelope: bytes, publication: Publication | None = None, spending: Spending | None = None
    ) -> None:
        with self._writing("announcement") as database:
            _put_document(database, "announcement", envelope)
            if publication is not None:
                body = sealed(msgspec.json.encode(publication))
                database.execute("INSERT INTO publication (body) VALUES (?)", (body,))
                last = "SELECT max(id) FROM publication"
                database.execute(f"DELETE FROM publication WHERE id <= ({last}) - ?", (MAX_PUBLICATIONS,))  # noqa: S608  # a constant
            if spending is not None:
                _put_document(database, "spending", msgspec.json.encode(spending))

    def announcement(self) -> bytes | None:
        return self._document("announcement")

    def publications(self, last: int = 1000) -> list[Publication]:
        """One that cannot be read is left out: what all of them spent is kept apart."""
        with self._reading() as database:
            rows = database.execute("SELECT body FROM publication ORDER BY id DESC LIMIT ?", (last,)).fetchall()
        return _readable(rows, Publication)

    def save_spending(self, spending: Spending) -> None:
        self._save_document("spending", msgspec.json.encode(spending))

    def spending(self) -> Spending | None:
        return self._decoded("spending", Spending)

    def save_sent(self, rows: Sequence[SentBytes]) -> None:
        """Few rows are added to; when there are too many, the whole table is written anew."""
        with self._writing("sent") as database:
            for row in rows:
                database.execute(_ADD_SENT, msgspec.structs.astuple(row))
            if database.execute("SELECT count(*) FROM sent WHERE round > 0").fetchone()[0] > MAX_SENT_ROWS:
                kept = entered({}, _sent(database))
                database.execute("DELETE FROM sent")
                database.executemany(_ADD_SENT, [msgspec.structs.astuple(row) for row in kept.values()])

    def sent(self) -> list[SentBytes]:
        with self._reading() as database:
            return _sent(database)

    def save_checkpoint(self, checkpoint: Checkpoint, record: StoredRound | None = None) -> None:
        body = sealed(msgspec.json.encode(checkpoint))
        with self._writing("checkpoint") as database:
            database.execute("INSERT OR REPLACE INTO document VALUES ('checkpoint', ?)", (body,))
            if record is not None:
                row = (record.round, sealed(msgspec.json.encode(record)))
                database.execute("INSERT OR REPLACE INTO round (round, body) VALUES (?, ?)", row)
                database.execute("DELETE FROM round WHERE id <= (SELECT max(id) FROM round) - ?", (MAX_ROUNDS,))

    def checkpoint(self) -> Checkpoint | None:
        return self._decoded("checkpoint", Checkpoint)

    def rounds(self, last: int = 1000) -> list[StoredRound]:
        """One that cannot be read is left out: it is history, and no reason to stop."""
        with self._reading() as database:
            rows = database.execute("SELECT body FROM round ORDER BY id DESC LIMIT ?", (last,)).fetchall()
        return _readable(rows, StoredRound)

    def save_peer(self, peer: KnownPeer) -> None:
        with self._writing("peer") as database:
            row = (peer.peer, "\n".join(peer.addresses), peer.last_good_unix, "\n".join(peer.proven))
            database.execute("INSERT OR REPLACE INTO peer VALUES (?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM peer WHERE peer NOT IN (SELECT peer FROM peer ORDER BY last_good_unix DESC, peer LIMIT ?)",
                (MAX_PEERS,),
            )

    def peers(self) -> list[KnownPeer]:
        with self._reading() as database:
            rows = database.execute("SELECT * FROM peer ORDER BY last_good_unix DESC, peer").fetchall()
        return [
            KnownPeer(
                peer=PeerId(peer),
                addresses=tuple(addresses.splitlines()),
                last_good_unix=last_good_unix,
                proven=tuple(proven.splitlines()),
            )
            for peer, addresses, last_good_unix, proven in rows
        ]

    def save_seen(self, peer: PeerId, epoch: int, sequence: int) -> None:
        with self._writing("seen") as database:
            row = database.execute("SELECT epoch, sequence FROM seen WHERE peer = ?", (peer,)).fetchone()
            newest = max((epoch, sequence), (-1, -1) if row is None else (row[0], row[1]))
            database.execute("INSERT OR REPLACE INTO seen (peer, epoch, sequence) VALUES (?, ?, ?)", (peer, *newest))
            database.execute(
                "DELETE FROM seen WHERE id NOT IN (SELECT id FROM seen ORDER BY id DESC LIMIT ?)", (MAX_SEEN,)
            )

    def seen(self) -> dict[PeerId, tuple[int, int]]:
        with self._reading() as database:
            rows = database.execute("SELECT peer, epoch, sequence FROM seen ORDER BY id").fetchall()
        return {PeerId(peer): (epoch, sequence) for peer, epoch, sequence in rows}

    def count_refusal(self, peer: PeerId, reason: str) -> None:
        word = reason[:MAX_REASON]
        with self._writing("refusal") as database:
            words = {word for (word,) in database.execute("SELECT reason FROM refusal WHERE peer = ?", (peer,))}
            if word not in words and len(words) >= MAX_REASONS - 1:
                word = "other"
            if not words:
                _make_room(database)
            database.execute(
                "INSERT INTO refusal VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1", (peer, word)
            )

    def refusals(self) -> dict[PeerId, dict[str, int]]:
        counts: dict[PeerId, dict[str, int]] = {}
        with self._reading() as database:
            for peer, reason, count in database.execute(
                "SELECT peer, reason, count FROM refusal ORDER BY peer, reason"
            ):
                counts.setdefault(PeerId(peer), {})[reason] = count
        return counts

    def save_ban(self, ban: KeptBan) -> None:
        with self._writing("ban") as database:
            row = (ban.peer, ban.until_unix, ban.seconds, ban.bans, ban.reason[:MAX_REASON])
            database.execute("INSERT OR REPLACE INTO ban VALUES (?, ?, ?, ?, ?)", row)
            database.execute(
                "DELETE FROM ban WHERE peer NOT IN (SELECT peer FROM ban ORDER BY until_unix DESC, peer LIMIT ?)",
                (MAX_BANS,),
            )

    def lift_ban(self, peer: PeerId) -> None:
        with self._writing("unban") as database:
            database.execute("DELETE FROM ban WHERE peer = ?", (peer,))

    def bans(self) -> list[KeptBan]:
        with self._reading() as database:
            rows = database.execute("SELECT * FROM ban ORDER BY until_unix DESC, peer").fetchall()
        return [
            KeptBan(peer=PeerId(peer), until_unix=until, seconds=seconds, bans=bans, reason=reason)
            for peer, until, seconds, bans, reason in rows
        ]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _save_document(self, name: str, body: bytes) -> None:
        with self._writing(name) as database:
            _put_document(database, name, body)

    def _document(self, name: str) -> bytes | None:
        with self._reading() as database:
            row = database.execute("SELECT body FROM document WHERE name = ?", (name,)).fetchone()
        body = None if row is None else unsealed(row[0])
        if row is not None and body is None:
            raise StoreError(f"the {name} in {self._path} was damaged on disk", "start again: it is moved aside then")
        return body

    def _decoded(self, name: str, kind: type[Kept]) -> Kept | None:
        """What is whole and yet not understood was written by somebody else: it is said and left as it is."""
        body = self._document(name)
        try:
            return None if body is None else msgspec.json.decode(body, type=kind)
        except UNREADABLE as error:
            raise StoreError(
                f"the {name} in {self._path} is not understood: {error}",
                "was it written by another version of peerd? use that one, or another --home",
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise StoreError(f"cannot read {self._path}: {error}", advice(error)) from error
            except UNFIT as error:
                raise StoreError(f"{self._path} cannot be asked that: {error}") from error

    @contextmanager
    def _writing(self, name: str) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        with self._lock:
            try:
                with around(f"rows.{name}.begin"):
                    self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                with around(f"rows.{name}.commit"):
                    self._connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"cannot write {self._path}: {error}", advice(error)) from error
            except UNFIT as error:
                raise StoreError(f"{self._path} cannot keep that: {error}") from error
            finally:
                if self._connection.in_transaction:  # it failed; a full disk has ended it already
                    self._connection.execute("ROLLBACK")


_ADD_SENT = """INSERT INTO sent VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET own = own + excluded.own,
    passed_on = passed_on + excluded.passed_on, gossip = gossip + excluded.gossip,
    last_unix = max(last_unix, excluded.last_unix)"""


def _sent(database: sqlite3.Connection) -> list[SentBytes]:
    names = SentBytes.__struct_fields__
    rows = database.execute("SELECT round, peer, own, passed_on, gossip, last_unix FROM sent ORDER BY round, peer")
    return [msgspec.convert(dict(zip(names, row, strict=True)), SentBytes) for row in rows]


def _readable(rows: Iterable[tuple[bytes]], kind: type[Kept]) -> list[Kept]:
    """History, newest first, as values, oldest first. One with flipped bits, or not understood, is left out."""
    found = []
    for (sealed_body,) in rows:
        if (body := unsealed(sealed_body)) is not None:
            with suppress(*UNREADABLE):
                found.append(msgspec.json.decode(body, type=kind))
    return found[::-1]


def _put_document(database: sqlite3.Connection, name: str, body: bytes) -> None:
    database.execute("INSERT OR REPLACE INTO document VALUES (?, ?)", (name, sealed(body)))


def _make_room(database: sqlite3.Connection) -> None:
    """If too many peers were refused, forget the one with the fewest refusals: an offender stays known."""
    peers = database.execute("SELECT count(DISTINCT peer) FROM refusal").fetchone()[0]
    if peers >= MAX_REFUSED_PEERS:
        fewest = "SELECT peer FROM refusal GROUP BY peer ORDER BY sum(count), peer LIMIT 1"
        database.execute(f"DELETE FROM refusal WHERE peer = ({fewest})")  # noqa: S608  # a constant, no input
