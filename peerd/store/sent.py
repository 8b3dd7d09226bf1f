"""What left this device, as values: every publication, what all of them spent, and bytes by round and peer. Pure.

The book is kept for the user. It is bounded: of what is old, the sums remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId, Round

MAX_SENT_ROWS = 10_000  # (round, peer) pairs kept apart; some 100 bytes each
MAX_SENT_PEERS = 1024  # peers whose bytes of older rounds are kept apart; as many as the transport counts
KEPT = 0.9  # of the rows when there are too many, so that not every new row makes work
MAX_PUBLICATIONS = 10_000  # as many as rounds are kept

OLDER = Round(0)
"""The round of rows that are summed up: every round that is too old to be kept apart."""
SOMEBODY = PeerId("")
"""The peer of rows that are summed up."""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """One own update that was announced."""

    round: Round
    unix: float
    """When it was recorded, which is before it was spoken."""
    blob: Digest
    size: int
    """Bytes of the blob."""
    clip: float = 0.0
    """The norm to which the update was cut; 0: it was not."""
    noise: float = 0.0
    """In units of the sensitivity, which is twice the clip; 0: it went out as it was."""
    epsilon: float | None = None
    """What all noised publications up to this one betray together, at the delta of then; None: it had no noise."""


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """What all publications of this home come to. Written with each of them, before it is spoken."""

    since_unix: float
    """When the count began."""
    bare: int = 0
    """Publications without noise."""
    noised: tuple[tuple[float, int], ...] = ()
    """(noise, publications) pairs, as the accountant takes them."""
    epsilon: float | None = None
    """What the noised ones betray together, at `delta`; None before the first. Bare ones are under no bound."""
    delta: float | None = None
    lost: bool = False
    """There may have been publications before the count began: a database that was lost, or an older version."""

    @property
    def hidden(self) -> int:
        return sum(count for _, count in self.noised)

    def after(self, publication: Publication, delta: float) -> Spending:
        """One publication later."""
        if not publication.noise:
            return replace(self, bare=self.bare + 1)
        counts = dict(self.noised)
        counts[publication.noise] = counts.get(publication.noise, 0) + 1
        return replace(self, noised=tuple(sorted(counts.items())), epsilon=publication.epsilon, delta=delta)


class SentBytes(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that went to one peer."""

    round: Round
    """Of the update that was fetched; for all else, the round that this device was in."""
    peer: PeerId
    own: int = 0
    """Of my update of that round."""
    passed_on: int = 0
    """Of other peers' updates."""
    gossip: int = 0
    """Announcements, mine and others', and what gossip needs to carry them."""
    last_unix: float = 0.0

    @property
    def total(self) -> int:
        return self.own + self.passed_on + self.gossip

    def plus(self, other: SentBytes) -> SentBytes:
        """Both together, under the name of this one."""
        return replace(
            self,
            own=self.own + other.own,
            passed_on=self.passed_on + other.passed_on,
            gossip=self.gossip + other.gossip,
            last_unix=max(self.last_unix, other.last_unix),
        )


Book = dict[tuple[Round, PeerId], SentBytes]


def entered(book: Mapping[tuple[Round, PeerId], SentBytes], rows: Iterable[SentBytes]) -> Book:
    """The book with more rows, summed up if it would grow too long."""
    found = dict(book)
    for row in rows:
        _add(found, row)
    return _bounded(found)


def attributed(
    drained: Mapping[tuple[PeerId, Digest | None], int], own: Mapping[Digest, Round], now: Round, unix: float
) -> list[SentBytes]:
    """What the transport counted, by (peer, blob or None), as rows. `own`: which of my rounds a blob belongs to."""
    found: Book = {}
    for (peer, blob), count in sorted(drained.items(), key=str):
        if blob is None:
            row = SentBytes(round=now, peer=peer, gossip=count, last_unix=unix)
        elif blob in own:
            row = SentBytes(round=own[blob], peer=peer, own=count, last_unix=unix)
        else:
            row = SentBytes(round=now, peer=peer, passed_on=count, last_unix=unix)
        _add(found, row)
    return list(found.values())


def totals(rows: Iterable[SentBytes]) -> tuple[int, int]:
    """Bytes and peers."""
    found = list(rows)
    return sum(row.total for row in found), len({row.peer for row in found})


def _add(book: Book, row: SentBytes) -> None:
    key = (row.round, row.peer)
    book[key] = book[key].plus(row) if key in book else row


def _bounded(book: Book) -> Book:
    recent = sorted(key for key in book if key[0] != OLDER)
    if len(recent) > MAX_SENT_ROWS:
        for key in recent[: len(recent) - int(KEPT * MAX_SENT_ROWS)]:
            _add(book, replace(book.pop(key), round=OLDER))
    older = [row for (round_, peer), row in book.items() if round_ == OLDER and peer != SOMEBODY]
    if len(older) > MAX_SENT_PEERS:
        least = sorted(older, key=lambda row: (row.total, row.peer))[: len(older) - int(KEPT * MAX_SENT_PEERS)]
        for row in least:
            _add(book, replace(book.pop((row.round, row.peer)), peer=SOMEBODY))
    return book
