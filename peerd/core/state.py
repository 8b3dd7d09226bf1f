"""The state of a node as one frozen value, and the few ways to change it that every rule shares.

All of a node's memory is here: no rule keeps anything beside it, so what a step does depends on this value and the
event alone. Rules change it with `replace`; the helpers below are those changes that several rules share, so that what
belongs together changes together (a banned peer loses its update, an update that is dropped becomes garbage).

Blobs are deleted by marking, not by counting: `discard` marks a digest, and `node._forget` deletes what is marked and
not in `needed`, which is worked out anew from the state. A count of references would have to be right in every rule;
this has to be right in one function. What falls out of the bounded list is swept at the next start.

The table of peers is bounded, and full of strangers if somebody wants it to be. So an entry has a worth: a newcomer
takes the place of the worst only if it is worth more (`welcome`), and who leaves keeps its newest order in `seen`, or
leaving and coming back would be a way to replay.

Times are monotonic seconds of this machine, as events bring them (`Event.at`). Mappings are never changed in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core.dice import roll
from peerd.core.effects import AnyEffect, Ban, CountRefusal, Disconnect, Half, LiftBan, Note
from peerd.core.knocks import Knocks
from peerd.core.limits import (
    COUNTED_A_SECOND,
    COUNTED_BURST,
    KEPT_BANS_A_SECOND,
    KEPT_BANS_BURST,
    MAX_GARBAGE,
    MAX_KNOWN_PEERS,
    MAX_SEEN,
    MAX_STANDINGS,
    MIDDLE_ANSWERS_BURST,
    MIDDLE_GRACE_SECONDS,
    OWN_BURST,
    STRANGER_BURST,
)
from peerd.core.neighbours import Neighbour, Order, counted
from peerd.core.offences import Standing, is_throttled, offended, weight, worth_keeping
from peerd.core.phases import AnyPhase, Assembling, Merging, Starting, Stopping
from peerd.core.settings import Settings
from peerd.pacing import Bucket
from peerd.wire.messages import Announcement


class Double(msgspec.Struct, frozen=True, kw_only=True):
    """Another daemon with my identity; see `doubles`."""

    heard_at: float
    """After DOUBLE_SECONDS of silence it is no longer spoken of."""
    round: Round
    """The one that it announced last."""
    addresses: tuple[str, ...]
    """Where it says it listens, so that a person can find it."""


class PendingMiddle(msgspec.Struct, frozen=True, kw_only=True):
    """A question about the middle of two updates, mine or another's, that has no answer yet."""

    number: int
    peer: PeerId
    mine: Half
    theirs: Half
    asked_at: float

    @property
    def gives_up_at(self) -> float:
        """When it is over without any answer."""
        return self.asked_at + MIDDLE_GRACE_SECONDS

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What the worker needs for it."""
        return (*self.mine.blobs, *self.theirs.blobs)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's view of the world and of its own round."""

    settings: Settings
    """The user's choices; they do not change in a run."""
    me: PeerId
    """My own id. Never a key of `neighbours`."""
    at: float
    """The time of the last event; it never runs backwards."""
    lots: bytes = b""
    """The key of all lots, 32 bytes, a secret: if others knew it, they could choose ids that I prefer. See `dice`."""
    phase: AnyPhase = Starting()
    """Where the round stands; see `phases`. Starting and Stopping: no worker, so no job and no inspection runs."""
    network: Digest | None = None
    """Known once the worker has started for the first time. `latest` of every neighbour is of this network."""
    max_blob_bytes: Mapping[str, int] = {}
    """Bytes of the largest valid blob by codec: nothing larger, and of no other codec, is ever fetched."""
    difference_codecs: frozenset[str] = frozenset()
    """Codecs whose blobs may have a base, which the same bound holds for; of no other is a base fetched."""
    round: Round = Round(0)
    """The round I am in, or the last one; counted from 1. Training is always of this round."""
    round_began_at: float = 0.0
    """When `round` began, or when the worker came if it went on in the middle of one."""
    round_seconds: float = 0.0
    """How long my last full round took: the pace by which it is judged whether others still announce."""
    steps: int = 0
    """Own optimizer steps so far, in all runs; `total_steps` ends the training by them."""
    best: float | None = None
    """The best guard loss so far, in nats a token; None before the first measured round, and after new text."""
    waited_rounds: int = 0
    """Measured rounds since the guard loss last improved; at `patience`, training rests."""
    row: Mapping[PeerId, float] = {}
    """My last trust row: weights of those that took part in the merge, mine too; `max_neighbours` + 1 at most."""
    listened_to: Mapping[PeerId, Round] = {}
    """Who had a fair weight in a row of mine, and in which round last; see `clocks`."""
    neighbours: Mapping[PeerId, Neighbour] = {}
    """All I know of others, each under its own id; MAX_KNOWN_PEERS at most, whether connected or not."""
    partial_view: frozenset[PeerId] = frozenset()
    """Whose updates are wanted, if more announce than `max_neighbours`; else empty. See `partial_view`."""
    seen: Mapping[PeerId, Order] = {}
    """Newest orders of peers that are not among the neighbours; no peer is in both. MAX_SEEN, the latest to leave."""
    began_at: float = 0.0
    """When this run began."""
    epoch: int = 0
    """Of this run: whatever it announces carries it. Greater than that of every run before (ADR 0017)."""
    said_before: Order = (-1, -1)
    """The last number that a run before may have been given, as far as this home knows."""
    resumed: Round = Round(0)
    """The round in which this run went on."""
    lost: Round = Round(0)
    """The last round of mine that others have heard of and this home has not; zero if there is none."""
    double: Double | None = None
    """The last that was heard of one; it may have fallen silent (`doubles.running`)."""
    own: Announcement | None = None
    """My last announcement, of the run before until this one has published. Its blob stays on disk, and its base."""
    own_before: tuple[Digest, ...] = ()
    """The blobs of the one before: somebody may still be fetching them."""
    pairing: float | None = None
    """As of `WorkerStarted.pairing`. None: the trust scheme asks nobody, and nobody is answered."""
    meeting: PendingMiddle | None = None
    """My question about a middle, if one is under way; see `middles`."""
    middles: int = 0
    """Such questions so far: their numbers."""
    answering: PendingMiddle | None = None
    """Another's question that my worker has."""
    answers: Bucket = Bucket(level=MIDDLE_ANSWERS_BURST, filled_at=0.0)
    """Answers that others may still have."""
    answers_not_before: float = 0.0
    """The end of the rest after the last one."""
    products: Mapping[PeerId, float] = {}
    """Agreements since the last merge, of peers that are known; MAX_KNOWN_PEERS at most."""
    speech: Bucket = Bucket(level=OWN_BURST, filled_at=0.0)
    """Own updates that others would still take from me."""
    withheld: str = ""
    """Why the last own update was not published, if the user's privacy budget forbade it; empty once one was."""
    repeated_at: float = -1e9
    """When `own` was last said; it is repeated MIN_REPEAT_SECONDS later at the earliest, however many connect."""
    repeat_at: float = 0.0
    """When it is due to be said again, if anybody is connected."""
    garbage: tuple[Digest, ...] = ()
    """Blobs to delete as soon as nothing needs them, each once; what is in `needed` is never deleted."""
    strangers: Bucket = Bucket(level=STRANGER_BURST, filled_at=0.0)
    """First announcements of unknown peers, all together."""
    knocks: Knocks = Knocks()
    """Dials to where nobody has answered me."""
    countable: Bucket = Bucket(level=COUNTED_BURST, filled_at=0.0)
    """Refusals that may still be written to disk."""
    bannable: Bucket = Bucket(level=KEPT_BANS_BURST, filled_at=0.0)
    """Bans that may still be written to disk."""
    standings: Mapping[PeerId, Standing] = {}
    """Of peers that offended lately, whether or not they are neighbours; MAX_STANDINGS at most. Who is banned here is
    neither dialled nor fetched from, and takes part in no merge."""
    refused: Mapping[str, int] = {}
    """Refusals of this run by reason, all peers together; MAX_REASONS words at most."""
    dropped: int = 0
    """Announcements of strangers that a flood drowned."""
    alone_is_said: bool = False
    """Whether people were told that nobody is connected; one connection makes it news again."""
    assembly: str = ""
    """What came of a newcomer's assembly in this run, as a sentence's end; empty if there was none."""
    merge_deaths: int = 0
    """Workers lost in a row while they merged; any merge that ends, well or not, sets it to 0."""


Moved = tuple[Node, list[AnyEffect]]
"""What every rule returns: the node after it, and what is to be done. The node before stays as it was."""


def has_worker(node: Node) -> bool:
    """Whether there is somebody to train, inspect and merge."""
    return not isinstance(node.phase, Starting | Stopping)


def put(node: Node, neighbour: Neighbour) -> Node:
    """The node with what it knows of one peer replaced. The peer must be known already."""
    return replace(node, neighbours={**node.neighbours, neighbour.peer: neighbour})


def is_banned(node: Node, peer: PeerId) -> bool:
    """Whether nothing of this peer is wanted now."""
    standing = node.standings.get(peer)
    return standing is not None and standing.is_banned(node.at)


def throttled(node: Node, peer: PeerId) -> bool:
    """Whether it offended so much that others go first."""
    standing = node.standings.get(peer)
    return standing is not None and is_throttled(standing, node.at)


def refuse(node: Node, peer: PeerId, reason: str) -> Moved:
    """Count a refusal; on disk too, unless somebody floods us with reasons to write. One too many bans the peer."""
    node = replace(node, refused=counted(node.refused, reason))
    node, bans = _held_against(node, peer, reason)
    known = node.neighbours.get(peer)
    if known is not None:
        node = put(node, replace(known, refused=counted(known.refused, reason)))
    rest = node.countable.take(node.at, COUNTED_BURST, COUNTED_A_SECOND)
    if rest is None:
        return node, bans
    return replace(node, countable=rest), [CountRefusal(peer=peer, reason=reason), *bans]


def _held_against(node: Node, peer: PeerId, reason: str) -> Moved:
    before = node.standings.get(peer, Standing())
    if not weight(reason) and peer not in node.standings:
        return node, []
    after = offended(before, node.at, reason)
    node = replace(node, standings=worth_keeping({**node.standings, peer: after}, node.at, MAX_STANDINGS))
    if after.bans == before.bans:
        return node, []
    seconds = after.until - node.at
    minutes = f"{seconds / 60:.0f} minutes"
    note = Note(level="warning", message=f"a peer is banned for {minutes} ({reason})", peer=peer)
    effects: list[AnyEffect] = [Disconnect(peer=peer), note]
    rest = node.bannable.take(node.at, KEPT_BANS_BURST, KEPT_BANS_A_SECOND)
    if rest is not None:  # else it is banned until the next start, and a crowd does not keep the disk busy
        node = replace(node, bannable=rest)
        effects.insert(0, Ban(peer=peer, seconds=seconds, bans=after.bans, reason=reason))
    return _shut_out(node, peer), effects


def lifted(node: Node, peer: PeerId) -> Moved:
    """A ban ends by hand, and what led to it is forgotten."""
    if peer not in node.standings:
        return node, []
    standings = {other: standing for other, standing in node.standings.items() if other != peer}
    note = Note(level="info", message="the ban of a peer is lifted", peer=peer)
    return replace(node, standings=standings), [LiftBan(peer=peer), note]


def _shut_out(node: Node, peer: PeerId) -> Node:
    """Nothing that it said or sent is used any more. What is on its way comes to nothing by itself."""
    known = node.neighbours.get(peer)
    if known is None:
        return node
    node = put(node, replace(known, latest=None, admitted=None, transfer=None))
    return discard(node, _held_of(known))


def _held_of(known: Neighbour) -> tuple[Digest, ...]:
    """Blobs that are here, or on their way, because of this peer."""
    on_its_way = known.transfer.announcement.blobs if known.transfer is not None else ()
    return (*on_its_way, *(known.admitted.blobs if known.admitted is not None else ()))


def welcome(node: Node, peer: PeerId, *, connected: bool) -> tuple[Node, Neighbour | None]:
    """The node with an entry for a peer; None if the table is full of peers that are worth as much or more."""
    if peer in node.neighbours:
        return node, node.neighbours[peer]
    if len(node.neighbours) >= MAX_KNOWN_PEERS:
        worst = min(node.neighbours.values(), key=lambda known: worth(node, known))
        if worth(node, worst) >= ((0, 1) if connected else (0, 0)):
            return node, None
        node = expel(node, worst)
    seen = dict(node.seen)
    neighbour = Neighbour(
        peer=peer, lot=roll(node.lots, "peer", peer), seen=seen.pop(peer, (-1, -1)), dial_not_before=node.at
    )
    return replace(node, neighbours={**node.neighbours, peer: neighbour}, seen=seen), neighbour


def worth(node: Node, known: Neighbour) -> tuple[int, int]:
    """How much is lost with an entry: what it has proved, then (below zero) how often it failed."""
    busy = known.transfer is not None or known.dialling_since is not None
    proved = 4 * known.connected + 2 * (known.admitted is not None or busy) + (node.row.get(known.peer, 0.0) > 0)
    return (proved + known.remembered, -known.unreliability - known.dial_attempt)


def expel(node: Node, known: Neighbour) -> Node:
    """The node without a peer; its newest order is still remembered, its blob is garbage."""
    neighbours = {peer: other for peer, other in node.neighbours.items() if peer != known.peer}
    seen = node.seen
    if known.seen > (-1, -1):
        seen = dict([*node.seen.items(), (known.peer, known.seen)][-MAX_SEEN:])
    node = replace(node, neighbours=neighbours, seen=seen)
    return discard(node, _held_of(known))


def discard(node: Node, digests: Iterable[Digest]) -> Node:
    """Mark blobs as garbage; they are deleted once nothing needs them."""
    return replace(node, garbage=tuple(dict.fromkeys([*node.garbage, *digests]))[-MAX_GARBAGE:])


def needed(node: Node) -> set[Digest]:
    """Blobs that must stay: my own, those on their way in, those usable, and those in what the worker does."""
    digests = {digest for known in node.neighbours.values() for digest in _held_of(known)}
    digests.update(node.own_before)
    if node.own is not None:
        digests.update(node.own.blobs)
    if isinstance(node.phase, Merging | Assembling):
        digests.update(node.phase.digests)
    for pending in (node.meeting, node.answering):
        digests.update(pending.blobs if pending is not None else ())
    return digests
