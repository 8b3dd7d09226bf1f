"""The store without a disk, for tests and simulations: the same promises, kept in dictionaries.

`reopened` is what a process finds that comes after a crash: all that was durable, and nothing else. So a test may kill
a daemon between any two steps and look at what the next one makes of it, without a disk and in no time. Bounds are
those of the real store, since what falls out of a table is a part of what it promises.
"""

# What each method promises stands in `peerd.store.port`; here, only what is particular to this back end.

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId
from peerd.errors import LostError
from peerd.store.blobs import is_digest
from peerd.store.limits import (
    MAX_BANS,
    MAX_PARTIAL_BYTES,
    MAX_PARTIALS,
    MAX_PEERS,
    MAX_REASON,
    MAX_REASONS,
    MAX_REFUSED_PEERS,
    MAX_ROUNDS,
    MAX_SEEN,
    SEQUENCE_BLOCK,
)
from peerd.store.port import Checkpoint, KeptBan, KnownPeer
from peerd.store.rounds import StoredRound
from peerd.store.sent import MAX_PUBLICATIONS, Book, Publication, SentBytes, Spending, entered


class MemoryStore:
    """Rows in memory."""

    def __init__(self, *, epoch: int = 1) -> None:
        self.notice = ""
        self._epoch = epoch
        self.said_before = (0, 0)
        self._next = self._limit = 0
        self._announcement: bytes | None = None
        self._publications: list[Publication] = []
        self._spending: Spending | None = None
        self._sent: Book = {}
        self._checkpoint: Checkpoint | None = None
        self._rounds: dict[int, StoredRound] = {}
        self._peers: dict[PeerId, KnownPeer] = {}
        self._seen: dict[PeerId, tuple[int, int]] = {}
        self._refusals: dict[PeerId, dict[str, int]] = {}
        self._bans: dict[PeerId, KeptBan] = {}

    def reopened(self) -> MemoryStore:
        """The store of the next process."""
        store = MemoryStore(epoch=self._epoch + 1)
        store.said_before = (self._epoch, self._limit)
        store._announcement, store._checkpoint = self._announcement, self._checkpoint
        store._publications, store._spending, store._sent = self._publications, self._spending, self._sent
        store._rounds, store._peers, store._seen = dict(self._rounds), dict(self._peers), dict(self._seen)
        store._bans = dict(self._bans)
        store._refusals = {peer: dict(counts) for peer, counts in self._refusals.items()}
        return store

    def reserve_sequence(self) -> tuple[int, int]:
        if self._next >= self._limit:
            self._limit += SEQUENCE_BLOCK
        self._next += 1
        return self._epoch, self._next

    def reserved(self) -> tuple[int, int]:
        return self._epoch, self._limit

    def save_announcement(
        self, envelope: bytes, publication: Publication | None = None, spending: Spending | None = None
    ) -> None:
        self._announcement = envelope
        if publication is not None:
            self._publications = [*self._publications, publication][-MAX_PUBLICATIONS:]
        if spending is not None:
            self._spending = spending

    def announcement(self) -> bytes | None:
        return self._announcement

    def publications(self, last: int = 1000) -> list[Publication]:
        return self._publications[-last:] if last > 0 else []

    def save_spending(self, spending: Spending) -> None:
        self._spending = spending

    def spending(self) -> Spending | None:
        return self._spending

    def save_sent(self, rows: Sequence[SentBytes]) -> None:
        self._sent = entered(self._sent, rows)

    def sent(self) -> list[SentBytes]:
        return [row for _, row in sorted(self._sent.items())]

    def save_checkpoint(self, checkpoint: Checkpoint, record: StoredRound | None = None) -> None:
        self._checkpoint = checkpoint
        if record is not None:
            self._rounds.pop(record.round, None)
            self._rounds[record.round] = record
            _keep_last(self._rounds, MAX_ROUNDS)

    def checkpoint(self) -> Checkpoint | None:
        return self._checkpoint

    def rounds(self, last: int = 1000) -> list[StoredRound]:
        return list(self._rounds.values())[-last:] if last > 0 else []

    def save_peer(self, peer: KnownPeer) -> None:
        self._peers[peer.peer] = peer
        self._peers = {known.peer: known for known in self.peers()[:MAX_PEERS]}

    def peers(self) -> list[KnownPeer]:
        return sorted(self._peers.values(), key=lambda known: (-known.last_good_unix, known.peer))

    def save_seen(self, peer: PeerId, epoch: int, sequence: int) -> None:
        self._seen[peer] = max((epoch, sequence), self._seen.pop(peer, (-1, -1)))
        _keep_last(self._seen, MAX_SEEN)

    def seen(self) -> dict[PeerId, tuple[int, int]]:
        return dict(self._seen)

    def count_refusal(self, peer: PeerId, reason: str) -> None:
        if peer not in self._refusals and len(self._refusals) >= MAX_REFUSED_PEERS:
            del self._refusals[min(self._refusals, key=lambda known: (sum(self._refusals[known].values()), known))]
        counts = self._refusals.setdefault(peer, {})
        word = reason[:MAX_REASON]
        if word not in counts and len(counts) >= MAX_REASONS - 1:
            word = "other"
        counts[word] = counts.get(word, 0) + 1

    def refusals(self) -> dict[PeerId, dict[str, int]]:
        return {peer: dict(sorted(counts.items())) for peer, counts in sorted(self._refusals.items())}

    def save_ban(self, ban: KeptBan) -> None:
        self._bans[ban.peer] = replace(ban, reason=ban.reason[:MAX_REASON])
        ranked = sorted(self._bans.values(), key=lambda kept: (-kept.until_unix, kept.peer))
        self._bans = {kept.peer: kept for kept in ranked[:MAX_BANS]}

    def lift_ban(self, peer: PeerId) -> None:
        self._bans.pop(peer, None)

    def bans(self) -> list[KeptBan]:
        return sorted(self._bans.values(), key=lambda kept: (-kept.until_unix, kept.peer))

    def close(self) -> None:
        pass


class MemoryBlobs:
    """Blobs in memory; `folder` is needed only for `path`, which has to name a real file."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._blobs: dict[Digest, bytes] = {}
        self._partials: dict[Digest, bytes] = {}

    def size(self, digest: Digest) -> int | None:
        return len(self._blobs[digest]) if digest in self._blobs else None

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        return self._blobs.get(digest, b"")[offset : offset + length]

    def partial_size(self, digest: Digest) -> int:
        return len(self._partials.get(digest, b""))

    def append_partial(self, digest: Digest, offset: int, data: bytes) -> bool:
        held = self._partials.get(digest, b"")
        if len(held) != offset or not is_digest(digest):
            return False
        self._partials.pop(digest, None)
        self._partials[digest] = held + data  # the last written comes last
        _keep_last(self._partials, MAX_PARTIALS)
        while len(self._partials) > 1 and sum(map(len, self._partials.values())) > MAX_PARTIAL_BYTES:
            del self._partials[next(iter(self._partials))]
        return True

    def complete_partial(self, digest: Digest) -> bool:
        data = self._partials.pop(digest, None)
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            return False
        self._blobs[digest] = data
        return True

    def drop_partial(self, digest: Digest) -> None:
        self._partials.pop(digest, None)

    def put(self, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).hexdigest())
        self._blobs[digest] = data
        return digest

    def adopt(self, path: Path) -> Digest:
        if not path.exists():
            raise LostError(f"{path} vanished before it could be kept")
        digest = self.put(path.read_bytes())
        path.unlink()
        return digest

    def path(self, digest: Digest) -> Path:
        if digest not in self._blobs or self._folder is None:
            raise LostError(f"the blob {digest} is not in memory, or there is no folder to show it in")
        file = self._folder / digest
        file.write_bytes(self._blobs[digest])
        return file

    def sweep(self, keep: Iterable[Digest], *, resumable_seconds: float = 0.0) -> int:
        wanted = set(keep)
        shelves = (self._blobs,) if resumable_seconds else (self._blobs, self._partials)
        useless = [(shelf, digest) for shelf in shelves for digest in shelf if digest not in wanted]
        return sum(len(shelf.pop(digest)) for shelf, digest in useless)

    def delete(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._blobs.pop(digest, None)


def _keep_last(rows: dict[int, StoredRound] | dict[PeerId, tuple[int, int]] | dict[Digest, bytes], limit: int) -> None:
    """Drop the oldest entries beyond the limit."""
    while len(rows) > limit:
        del rows[next(iter(rows))]  # type: ignore[arg-type]  # a key of its own
