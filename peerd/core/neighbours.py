"""What a node knows of one other peer, as a frozen value, and small questions about it.

One record holds everything about a peer, in three groups that are trusted differently: what the peer *says* (name,
addresses, announcement: bounded, shown, never believed), what was *seen* of it (connected, proven addresses, failures),
and what is *owed* to it (buckets, pauses). Trust is in none of them: it is measured each round and stands in
`Node.row`.

An update passes through three fields, and the order of its announcement binds them:

    latest (announced)  -->  transfer (on its way)  -->  admitted (usable)  -->  used (in my last merge)

    admitted.order <= latest.order <= seen;   is_fresh means admitted.order > used

Addresses are kept in the order in which they are tried: those that have answered are never pushed out by claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core.knocks import target_of
from peerd.core.limits import (
    ANNOUNCEMENT_BURST,
    MAX_FETCH_TRIES,
    MAX_MISSED,
    MAX_REASON,
    MAX_REASONS,
    MAX_STRIKES,
    MIDDLE_ANSWERS_BURST_OF_ONE,
)
from peerd.pacing import Bucket
from peerd.wire.messages import MAX_ADDRESS, MAX_ADDRESSES, MAX_NAME, Announcement

Order = tuple[int, int]
"""(epoch, sequence) of an announcement; newer is greater."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """An admitted update: it may take part in a merge."""

    digest: Digest
    """Of its blob, which stays on disk as long as this value is anybody's `admitted`."""
    base: Digest | None = None
    """Of the blob that it is a difference to, which stays as long."""
    codec: str
    """The name of the codec that decodes it."""
    round: Round
    """Of its peer; rounds of different peers are not comparable."""
    order: Order
    """Of the newest announcement that names it."""
    heard_at: float
    """When it was announced last under a new number; beyond `staleness_seconds` of age it is dropped."""
    first_heard_at: float
    """When it was announced first; to say the same again makes nobody a copier of who copied it meanwhile."""
    admitted_at: float
    """When the worker found it sound."""

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What has to be on disk for it to be decoded."""
        return (self.digest,) if self.base is None else (self.digest, self.base)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """An announced update on its way in. `fetches` has the state diagram."""

    announcement: Announcement
    """What `latest` was when the fetch began; a newer one may have come since."""
    heard_at: float
    """When that was first heard."""
    gives_up_at: float
    """After this time a fetch without an answer counts as failed; it binds only the stages that fetch."""
    holders: tuple[PeerId, ...] = ()
    """Who is asked; the same for the base and for the update."""
    asks_origin: bool = True
    """Whether who announced it is among those asked: else a failure says nothing about it."""
    stage: Literal["fetching-base", "fetching", "fetched", "inspecting"] = "fetching"
    """`fetched` waits for a worker; `inspecting` needs one, so no transfer is in it while the node is Starting."""

    @property
    def is_fetching(self) -> bool:
        """Whether the network is at work for it."""
        return self.stage in ("fetching-base", "fetching")

    @property
    def awaits(self) -> Digest | None:
        """The blob of which the next answer is to speak."""
        return self.announcement.base if self.stage == "fetching-base" else self.announcement.blob


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one peer. Times are monotonic seconds."""

    peer: PeerId
    """Its id, and its key in `Node.neighbours`."""
    lot: float
    """In [0, 1), another one for each pair of peers, known to me alone: who is preferred if nothing else decides."""
    name: str = ""
    """Chosen by the peer: printable, but otherwise untrusted."""
    addresses: tuple[str, ...] = ()
    """Where it may be dialled, in the order of trying; MAX_ADDRESSES at most, those behind a relay included."""
    proven: frozenset[str] = frozenset()
    """Those of them (as `knocks.target_of` says) at which a dial of mine met this peer, or that the user gave."""
    knocked: frozenset[str] = frozenset()
    """What my last dial paid for: addresses that were only claimed, as `knocks.target_of` writes them."""
    connected: bool = False
    """Whether a connection is up, as far as events and the last tick say. Then `dialling_since` is None."""
    connected_at: float = 0.0
    """When it came up; meaningless while not connected."""
    dialled: bool = False
    """I chose to connect, not the peer: half of all connections are kept for such. False while not connected."""
    remembered: bool = False
    """Known as good from an earlier run, or proved good in this one."""
    remembered_at: float | None = None
    """When it was last written to disk in this run."""
    latest: Announcement | None = None
    """The newest announcement taken: of this very peer and of my network."""
    heard_at: float = 0.0
    """When `latest` was first heard."""
    seen: Order = (-1, -1)
    """The newest order ever taken, earlier runs included; what is older is refused as a replay."""
    bucket: Bucket = Bucket(level=ANNOUNCEMENT_BURST, filled_at=0.0)
    """Announcements that it may still make."""
    quota: Bucket = Bucket(level=1.0, filled_at=0.0)
    """Of bytes, as a part of what may be fetched of it in an hour."""
    transfer: Transfer | None = None
    """The one update of it that is on its way; there is never a second."""
    admitted: Update | None = None
    """Its newest update that the worker found sound. A ban takes it away."""
    used: Order = (-1, -1)
    """The order that my last merge took from this peer."""
    copy_of: PeerId | None = None
    """Whose update its own was a copy of in my last merge; told, not held against it."""
    strikes: int = 0
    """Updates refused in a row: corrupt, of a wrong size, or refused by the worker."""
    missed: int = 0
    """Announcements in a row of which a newer one came before the blob could be had."""
    fetch_failures: int = 0
    """Failed fetches of `latest`; at MAX_FETCH_TRIES it is given up until a newer one comes."""
    lost_base: Digest | None = None
    """A base that could not be had: no difference to it is fetched, and its peer's next key frame waited for."""
    fetch_not_before: float = 0.0
    """The end of the pause after a failed fetch."""
    others_not_before: float = 0.0
    """When others may be asked again for what it announced, while it is not connected itself."""
    dialling_since: float | None = None
    """When a dial began that has no answer yet; None if there is none. DIAL_GRACE_SECONDS later it counts as failed."""
    dial_attempt: int = 0
    """Dials in a row that led to no steady connection; the pause doubles with them."""
    dial_not_before: float = 0.0
    """When it is due again: the end of a pause, or an hour after it was found to be of another network."""
    met: tuple[Digest, Digest] | None = None
    """The blobs, mine and its, at whose middle we last compared gradients."""
    met_in: Round = Round(0)
    """The round of mine in which it was last drawn for that, or not."""
    met_tries: int = 0
    """Questions in that round; MAX_MIDDLE_TRIES: no more."""
    meet_not_before: float = 0.0
    """The end of the pause after a question without an answer."""
    told: tuple[tuple[Digest, Digest], ...] = ()
    """The blobs, mine and its, of the last middles at which it got my gradient: once each; MAX_MIDDLES_TOLD at most."""
    answers: Bucket = Bucket(level=MIDDLE_ANSWERS_BURST_OF_ONE, filled_at=0.0)
    """Answers that it may still have of those that all may have."""
    clock_off: float = 0.0
    """Seconds by which my clock is ahead of its own, if by too much to take its announcements; else 0."""
    refused: Mapping[str, int] = {}
    """Refusals of this run by reason; MAX_REASONS words at most."""

    @property
    def is_fresh(self) -> bool:
        """Its admitted update has not been in a merge of mine."""
        return self.admitted is not None and self.admitted.order > self.used

    @property
    def is_given_up(self) -> bool:
        """Nobody waits for what it announced."""
        return (
            self.fetch_failures >= MAX_FETCH_TRIES
            or self.strikes >= MAX_STRIKES
            or self.missed >= MAX_MISSED
            or self.lacks_base
        )

    @property
    def lacks_base(self) -> bool:
        """Whether its newest update is a difference to what cannot be had."""
        return self.latest is not None and self.latest.base is not None and self.latest.base == self.lost_base

    def holds(self, base: Digest | None) -> bool:
        """Whether a base is on disk because of this peer: as its admitted update, or as the base of that."""
        return base is None or (self.admitted is not None and base in self.admitted.blobs)

    @property
    def unreliability(self) -> int:
        """How much of what it announced lately was of no use."""
        return self.strikes + self.missed + self.fetch_failures


def clean_name(name: str) -> str:
    """What of a stranger's display name can be shown: no control characters, which could drive a terminal."""
    return "".join(character for character in name if character.isprintable())[:MAX_NAME]


def fitting(*addresses: str) -> tuple[str, ...]:
    """Each once, in this order; at most MAX_ADDRESSES.

    What holds a line break or the like is no address, and would be two of them in a file of one a line.
    """
    kept = (address for address in addresses if 0 < len(address) <= MAX_ADDRESS and address.isprintable())
    return tuple(dict.fromkeys(kept))[:MAX_ADDRESSES]


def with_claims(known: Neighbour, said: tuple[str, ...]) -> tuple[str, ...]:
    """What the peer itself says comes first; what has answered me is never pushed out by it."""
    answered = [address for address in known.addresses if target_of(address) in known.proven]
    room = MAX_ADDRESSES - len([address for address in answered if address not in said])
    return fitting(*fitting(*said)[:room], *answered, *known.addresses)


def with_hearsay(known: Neighbour, said: tuple[str, ...]) -> tuple[str, ...]:
    """What somebody else says comes last: if there is no room, it takes the place of one that never answered."""
    new = [address for address in said if address not in known.addresses]
    kept = list(known.addresses)
    claimed = [address for address in kept if target_of(address) not in known.proven]
    if len(kept) >= MAX_ADDRESSES and new and claimed:
        kept.remove(claimed[-1])
    return fitting(*kept, *new)


def counted(counts: Mapping[str, int], reason: str) -> dict[str, int]:
    """One refusal more; a bounded number of words."""
    word = reason[:MAX_REASON]
    if word not in counts and len(counts) >= MAX_REASONS - 1:
        word = "other"
    return {**counts, word: counts.get(word, 0) + 1}
