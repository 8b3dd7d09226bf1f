"""What the daemon asks of its store. `sqlite` + `blobs`, and the fakes in `peerd.testing`, pass one contract suite.

Synchronous and quick; the shell calls the slow ones (those that fsync) in a thread. Every method that says durable
has its bytes on disk before it returns. Blobs are the `peerd.wire.shelf.BlobShelf` plus what is below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from p2pfinetune.names import Digest, PeerId, Round
from peerd.store.rounds import StoredRound
from peerd.store.sent import Publication, SentBytes, Spending
from peerd.wire.shelf import BlobShelf


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where training stands: the blob holds weights, moments and counts (`p2pfinetune.round.saved.LearnerState`).

    No random generator: every random choice follows from the seed and the number of the step.

    Its age is (`round`, `trained`): of two, the greater was written later. Both blobs of a checkpoint in force are in
    the shelf, and are neither swept nor served.
    """

    round: Round
    trained: bool
    """True after the own training of `round`, False at the start of `round` (after the merge of the one before)."""
    steps: int = 0
    """Of that training, for the record of the round."""
    loss_train: float | None = None
    """Likewise."""
    blob: Digest
    best_guard: float | None = None
    """The best guard loss ever, in nats a token; None before the first."""
    best_blob: Digest | None = None
    """The adapter with the best guard loss ever; kept until a better one comes."""
    peer: PeerId | None = None
    """Whose training it is, since text is dealt by identity; None if a version wrote it that did not say."""


class KnownPeer(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that proved good, to be dialled first after a restart."""

    peer: PeerId
    addresses: tuple[str, ...]
    """In the order in which they are tried."""
    last_good_unix: float
    """When an update of it was admitted last, in Unix seconds; of many peers, those with the greatest are kept."""
    proven: tuple[str, ...] = ()
    """Where it has answered a dial of this device; the others are only what it said."""


class KeptBan(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is wanted of a peer until then."""

    peer: PeerId
    until_unix: float
    """Unix seconds, since monotonic ones mean nothing in the next run."""
    seconds: float
    """How long it was meant to last: a clock that was set back makes no ban longer."""
    bans: int
    """How often the peer has been banned, this time included; the next ban is longer by it."""
    reason: str
    """The offence that was one too many."""


class Store(Protocol):
    """Rows."""

    def reserve_sequence(self) -> tuple[int, int]:
        """(epoch, sequence), never given before and never again, whatever crashes. Durable (in blocks).

        Each opening has an epoch of its own, above all before it.
        """
        ...

    def reserved(self) -> tuple[int, int]:
        """(epoch, sequence) at the end of the block that was reserved last; nothing beyond it has been given.

        The epoch is that of this opening, be it that nothing was reserved in it.
        """
        ...

    @property
    def said_before(self) -> tuple[int, int]:
        """What `reserved` was before this opening."""
        ...

    def save_announcement(
        self, envelope: bytes, publication: Publication | None = None, spending: Spending | None = None
    ) -> None:
        """The own signed announcement and what it costs, in one transaction, before it is spoken. Durable."""
        ...

    def announcement(self) -> bytes | None:
        """The last saved own announcement."""
        ...

    def publications(self, last: int = 1000) -> list[Publication]:
        """Oldest first. Bounded: the oldest fall out."""
        ...

    def save_spending(self, spending: Spending) -> None:
        """Where the count begins. Durable."""
        ...

    def spending(self) -> Spending | None:
        """What all publications come to; None if nobody ever counted."""
        ...

    def save_sent(self, rows: Sequence[SentBytes]) -> None:
        """Add bytes to the book of what left this device. Bounded as `peerd.store.sent.entered` says. Durable."""
        ...

    def sent(self) -> list[SentBytes]:
        """The book, by round and peer."""
        ...

    def save_checkpoint(self, checkpoint: Checkpoint, record: StoredRound | None = None) -> None:
        """Both in one transaction. Durable. The blobs must be in the shelf already."""
        ...

    def checkpoint(self) -> Checkpoint | None:
        """The last saved one."""
        ...

    def rounds(self, last: int = 1000) -> list[StoredRound]:
        """Finished rounds, oldest first."""
        ...

    def save_peer(self, peer: KnownPeer) -> None:
        """Bounded: the least recently good peers fall out."""
        ...

    def peers(self) -> list[KnownPeer]:
        """Most recently good first."""
        ...

    def save_seen(self, peer: PeerId, epoch: int, sequence: int) -> None:
        """The newest order whose update was admitted, so that a replay is refused after a restart too. Bounded."""
        ...

    def seen(self) -> dict[PeerId, tuple[int, int]]:
        """What save_seen kept."""
        ...

    def count_refusal(self, peer: PeerId, reason: str) -> None:
        """Bounded in peers and in reasons."""
        ...

    def refusals(self) -> dict[PeerId, dict[str, int]]:
        """Counts by peer and reason."""
        ...

    def save_ban(self, ban: KeptBan) -> None:
        """Bounded: those that ended longest ago fall out. Durable."""
        ...

    def lift_ban(self, peer: PeerId) -> None:
        """Forget it, and that there ever was one. Durable."""
        ...

    def bans(self) -> list[KeptBan]:
        """Those that have ended, too: the next one is longer."""
        ...

    def close(self) -> None:
        """Flush and close."""
        ...


class Blobs(BlobShelf, Protocol):
    """Content-addressed bytes."""

    def put(self, data: bytes) -> Digest:
        """Durable."""
        ...

    def adopt(self, path: Path) -> Digest:
        """Move a finished file of the worker into the shelf under its digest. Durable."""
        ...

    def path(self, digest: Digest) -> Path:
        """Where a complete blob lies, for the worker to read."""
        ...

    def delete(self, digests: Iterable[Digest]) -> None:
        """Delete blobs that nobody needs any more; absent ones are no error."""
        ...

    def sweep(self, keep: Iterable[Digest], *, resumable_seconds: float = 0.0) -> int:
        """Delete everything else, but for transfers interrupted so recently; returns the bytes freed."""
        ...
