"""What can happen to a node. Past tense; every event carries `at`, monotonic seconds given by whoever feeds it.

Events are the only way the core learns of the world: clocks, networks, disks and the worker speak through them. So an
event is also what a flight recorder keeps, and what a replay feeds (`peerd.testing.replay`): it holds no live object,
and everything in it can be written down.

An event may come late, twice, or without having been asked for: a handler first looks whether the state still waits for
it (by round, digest or peer), and otherwise leaves the node as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import RoundFigures
from peerd.wire.messages import Announcement


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that has happened."""

    at: float


class WorkerStarted(Event, frozen=True, kw_only=True):
    """The worker has loaded model, data and the last checkpoint; `round` and `trained` say where that stands.

    `trained` means that the own training of `round` is in the checkpoint and the round goes on with publishing.
    """

    network: Digest
    device: str
    max_blob_bytes: Mapping[str, int]
    """Codec name to the largest valid blob; an announcement of more, or of another codec, is refused unfetched."""
    difference_codecs: frozenset[str] = frozenset()
    """Names of those whose blobs may be differences to a base."""
    round: Round
    trained: bool
    best_guard: float | None
    pairing: float | None = None
    """The chance that a pair compares gradients in a round, 0 one in the number of peers; None: nobody is asked."""
    steps: int = 0
    """Own optimizer steps so far, in all rounds."""
    is_new: bool = False
    """Nothing was ever trained or assembled in this home."""
    waited_rounds: int = 0
    """Finished rounds since the guard loss last improved (`core.patience.waited_rounds` of the records)."""


class WorkerDied(Event, frozen=True, kw_only=True):
    """The worker process is gone, whatever it was doing; the shell is starting another."""

    reason: str


class Trained(Event, frozen=True, kw_only=True):
    """The own training of a round is done and its checkpoint is durable."""

    round: Round
    steps: int


class Published(Event, frozen=True, kw_only=True):
    """The own update is durable, its announcement recorded, and handed to the network."""

    announcement: Announcement


class Reannounced(Event, frozen=True, kw_only=True):
    """The last own update stands under a new number of this run, since its addresses or its epoch were of the past."""

    announcement: Announcement


class PublishFailed(Event, frozen=True, kw_only=True):
    """The own update could not be encoded, written or announced."""

    round: Round
    reason: str


class PublishWithheld(Event, frozen=True, kw_only=True):
    """The own update was not published, because the user's privacy budget does not allow it; `reason` in words."""

    round: Round
    reason: str


class AnnouncementHeard(Event, frozen=True, kw_only=True):
    """An announcement with a valid signature of its own peer arrived; nothing else about it is verified yet."""

    announcement: Announcement
    via: PeerId
    age_seconds: float = 0.0
    """Since it says it was sealed, by this machine's clock; negative if it comes from the future."""


class MessageRefused(Event, frozen=True, kw_only=True):
    """Bytes from `peer` (the neighbour that passed them on) were refused before they became a message."""

    peer: PeerId
    reason: str


class PeerFound(Event, frozen=True, kw_only=True):
    """Somebody says that this peer can be reached there; `how` names the discovery method."""

    peer: PeerId
    addresses: tuple[str, ...]
    how: str


class PeerConnected(Event, frozen=True, kw_only=True):
    """A connection is up, whoever dialled."""

    peer: PeerId
    address: str


class PeerDisconnected(Event, frozen=True, kw_only=True):
    """The last connection to a peer is gone."""

    peer: PeerId


class AddressesChanged(Event, frozen=True, kw_only=True):
    """My own machine has moved, or got or lost an address; the daemon knows the present ones, the core needs none."""


class DialFailed(Event, frozen=True, kw_only=True):
    """No address of a peer answered."""

    peer: PeerId
    reason: str


class BlobFetched(Event, frozen=True, kw_only=True):
    """An announced blob is in the store, digest verified."""

    peer: PeerId
    """Who announced it, not who gave it."""
    digest: Digest
    bytes_in: int
    wrong: tuple[tuple[PeerId, str], ...] = ()
    """Holders proved to have given other bytes (`corrupt`) or to say another size (`oversize`) than was announced."""


class FetchFailed(Event, frozen=True, kw_only=True):
    """An announced blob could not be had; `reason` is a transport FailureReason."""

    peer: PeerId
    digest: Digest
    reason: str
    wrong: tuple[tuple[PeerId, str], ...] = ()
    """As of BlobFetched."""


class UpdateAdmitted(Event, frozen=True, kw_only=True):
    """The worker decoded and inspected a fetched update: schema, shapes, dtypes, finite, norm."""

    peer: PeerId
    digest: Digest


class UpdateRefused(Event, frozen=True, kw_only=True):
    """The worker refused a fetched update."""

    peer: PeerId
    digest: Digest
    reason: str


class Collaborated(Event, frozen=True, kw_only=True):
    """A round's scoring, merge and guard are done; its record and checkpoint are durable."""

    round: Round
    row: Mapping[PeerId, float]
    accepted: bool
    reason: str
    """Why the guard refused; empty if it accepted or there was nobody to merge with."""
    figures: RoundFigures
    """Carried as they are; patience looks at the personal model's guard loss."""
    best_guard: float
    refused: Mapping[PeerId, str] = {}
    """Updates that the worker left out, with the reason: each was fine by itself, and odd beside the others."""
    copies: tuple[tuple[PeerId, PeerId], ...] = ()
    """Pairs of which one copied the other, me included."""


class CollaborationFailed(Event, frozen=True, kw_only=True):
    """Scoring or merging failed inside the worker; the round ends with the own adapter."""

    round: Round
    reason: str


class MiddleAsked(Event, frozen=True, kw_only=True):
    """A connected peer wants my gradient at the middle of two updates; `number` is the daemon's, for the answer."""

    peer: PeerId
    number: int
    mine: Digest
    """The asker's own blob."""
    yours: Digest
    """The blob of mine that it means."""


class MiddleAnswered(Event, frozen=True, kw_only=True):
    """That question is done with, well or not."""

    number: int


class MiddleCompared(Event, frozen=True, kw_only=True):
    """A peer answered my question, and its gradient was compared with mine."""

    number: int
    product: float
    """What the trust scheme makes of the inner product; finite."""


class MiddleFailed(Event, frozen=True, kw_only=True):
    """It did not. `reason`: a word of the other side's, a transport FailureReason, or what is wrong with the answer."""

    number: int
    reason: str


class Assembled(Event, frozen=True, kw_only=True):
    """A first adapter was put together and judged; record and checkpoint are durable."""

    row: Mapping[PeerId, float]
    """Whose pieces it is made of, as parts of its layers."""
    accepted: bool
    """Whether training begins from it, or from the seeded start all the same."""
    figures: RoundFigures


class AssemblyFailed(Event, frozen=True, kw_only=True):
    """There is none: nobody gave gates, or it failed in the worker. `reason` in words."""

    reason: str


class TextChanged(Event, frozen=True, kw_only=True):
    """The user's documents changed and the worker has read them again."""

    fingerprint: str


class BanLifted(Event, frozen=True, kw_only=True):
    """A person wants to hear of a peer again."""

    peer: PeerId


class Ticked(Event, frozen=True, kw_only=True):
    """Time has passed: deadlines, staleness, dials and retries are looked at. The shell ticks about once a second."""

    connected: frozenset[PeerId] | None = None
    """Who is really connected now, so that a lost or late connection event does no lasting harm; None: not looked."""


class StopAsked(Event, frozen=True, kw_only=True):
    """Somebody asked the daemon to stop."""

    reason: str


AnyEvent = (
    WorkerStarted
    | WorkerDied
    | Trained
    | Published
    | Reannounced
    | PublishFailed
    | PublishWithheld
    | AnnouncementHeard
    | MessageRefused
    | PeerFound
    | PeerConnected
    | PeerDisconnected
    | AddressesChanged
    | DialFailed
    | BlobFetched
    | FetchFailed
    | UpdateAdmitted
    | UpdateRefused
    | Collaborated
    | CollaborationFailed
    | MiddleAsked
    | MiddleAnswered
    | MiddleCompared
    | MiddleFailed
    | Assembled
    | AssemblyFailed
    | TextChanged
    | BanLifted
    | Ticked
    | StopAsked
)
