"""What the node wants done. Imperative; the shell performs each one as a named task and answers with an event.

"Record, then speak" lives in the performers: `Publish` reserves a sequence number, writes blob and announcement
durably, and only then gossips; `Train` and `Collaborate` have their checkpoint and record on disk before they answer.

The core bounds how many of a kind are under way (`limits`), so the shell needs no queue of effects: one job of a round
(`Train`, `Publish`, `Collaborate`, `Assemble`), MAX_FETCHES fetches, MAX_DIALS dials, one question about a
middle each way. For what crosses a network the core keeps a
deadline of its own as well, so that an answer that never comes is a failure and no leak; for what the worker does, its
death is the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2pfinetune.names import Digest, PeerId, Round


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Something to be done."""


class Train(Effect, frozen=True, kw_only=True):
    """Run `steps` optimizer steps of this round, then checkpoint. Answer: Trained."""

    round: Round
    steps: int


class Publish(Effect, frozen=True, kw_only=True):
    """Encode the own adapter, write it, announce it. Answer: Published or PublishFailed."""

    round: Round


class Repeat(Effect, frozen=True, kw_only=True):
    """Gossip the last recorded announcement again, sealed anew with the present time, for late peers.

    Answer: Reannounced, if it says another epoch than this run's, or other addresses than the present ones, and so
    takes a new number; else none.
    """


class Fetch(Effect, frozen=True, kw_only=True):
    """Bring the blob `peer` announced, from the first of `holders` that gives it. Answer: BlobFetched, FetchFailed.

    Either the update itself, or first the base that it is a difference to.
    """

    peer: PeerId
    digest: Digest
    size: int
    holders: tuple[PeerId, ...]
    timeout_seconds: float


class Admit(Effect, frozen=True, kw_only=True):
    """Let the worker decode and inspect a fetched blob. Answer: UpdateAdmitted or UpdateRefused."""

    peer: PeerId
    digest: Digest
    codec: str
    base: Digest | None = None
    """What the blob is a difference to; on the shelf like the blob."""
    order: tuple[int, int] = (0, 0)
    """(epoch, sequence) of its announcement, for `Store.save_seen`: older ones are refused after a restart too."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour's update that takes part in a merge."""

    peer: PeerId
    digest: Digest
    codec: str
    base: Digest | None = None
    round: Round
    age_seconds: float

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What has to be on disk for it to be decoded."""
        return (self.digest,) if self.base is None else (self.digest, self.base)


class Collaborate(Effect, frozen=True, kw_only=True):
    """Score, merge and guard with these updates; record the round. Answer: Collaborated or CollaborationFailed."""

    round: Round
    candidates: tuple[Candidate, ...]
    products: Mapping[PeerId, float] = {}
    """Agreements of gradients since the last merge, of a trust scheme that asks for them."""


class Half(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two updates at whose middle gradients are compared."""

    digest: Digest
    codec: str
    base: Digest | None = None

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What has to be on disk for it to be decoded."""
        return (self.digest,) if self.base is None else (self.digest, self.base)


class AskMiddle(Effect, frozen=True, kw_only=True):
    """Ask a peer for its gradient at the middle, and compare mine with it. Answer: MiddleCompared, MiddleFailed."""

    number: int
    peer: PeerId
    mine: Half
    theirs: Half


class AnswerMiddle(Effect, frozen=True, kw_only=True):
    """Work out and send what a peer asked for, by the number of its question. Answer: MiddleAnswered."""

    number: int
    peer: PeerId
    mine: Half
    theirs: Half


class RefuseMiddle(Effect, frozen=True, kw_only=True):
    """Say to who asked why it gets none. No answer."""

    number: int
    reason: str


class Assemble(Effect, frozen=True, kw_only=True):
    """Ask these for the gates of their adapters and put a first one together of the pieces; record it as round 0.

    Answer: Assembled or AssemblyFailed.
    """

    candidates: tuple[Candidate, ...]


class Dial(Effect, frozen=True, kw_only=True):
    """Connect to a peer at one of these addresses, all in one time limit. Answer: PeerConnected or DialFailed."""

    peer: PeerId
    addresses: tuple[str, ...]


class Remember(Effect, frozen=True, kw_only=True):
    """Keep a peer that proved good on disk, to be tried first after a restart. No answer."""

    peer: PeerId
    addresses: tuple[str, ...]
    proven: tuple[str, ...] = ()
    """As of `Neighbour.proven`: where it has answered me, or the user says it is."""


class Forget(Effect, frozen=True, kw_only=True):
    """Delete blobs nobody needs any more. No answer."""

    digests: tuple[Digest, ...]


class Note(Effect, frozen=True, kw_only=True):
    """Write a line for people and for `peerd status`: something a user would care about. No answer."""

    level: str
    """`info` or `warning`."""
    message: str
    peer: PeerId | None = None


class CountRefusal(Effect, frozen=True, kw_only=True):
    """Count, durably, that something of this peer was refused. No answer."""

    peer: PeerId
    reason: str


class Ban(Effect, frozen=True, kw_only=True):
    """Keep on disk that nothing is wanted of a peer for so long. No answer."""

    peer: PeerId
    seconds: float
    bans: int
    reason: str


class Disconnect(Effect, frozen=True, kw_only=True):
    """Close the connections to a peer. Answer: PeerDisconnected, if there were any."""

    peer: PeerId


class LiftBan(Effect, frozen=True, kw_only=True):
    """Forget a ban on disk. No answer."""

    peer: PeerId


class Stop(Effect, frozen=True, kw_only=True):
    """Leave: checkpoint is already durable; close network, worker and store."""

    reason: str


AnyEffect = (
    Train
    | Publish
    | Repeat
    | Fetch
    | Admit
    | Collaborate
    | AskMiddle
    | AnswerMiddle
    | RefuseMiddle
    | Assemble
    | Dial
    | Remember
    | Forget
    | Note
    | CountRefusal
    | Ban
    | LiftBan
    | Disconnect
    | Stop
)
