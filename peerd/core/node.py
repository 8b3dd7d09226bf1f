"""The whole behaviour of a peer as one pure function: what has happened goes in, what is to be done comes out.

Nothing that a peer, a network or a disk does makes it raise; whatever came too late or was not asked for is ignored.

A step has two halves. First the event changes what it is about (`_happened`, one line for each kind). Then the same
seven rules run, whatever the event was, and each asks "is there something to begin now?":

    event -> _happened -> fetches.start -> dials.start -> round.advance, newcomer.advance -> middles.start -> _repeat
          -> _forget -> (node, effects)

So no handler has to know what its news makes possible elsewhere: a fetch that ends frees a place, and the rule for
fetches finds the next peer by looking at the state, not by being called. The price is that the rules look at every
known peer once a step; most events are gossip that says nothing new, and those leave before the rules.

Forgetting comes last, when it is known what the step still needs (`state.needed`): a merge that begins in this very
step keeps its blobs.

`node.at` never runs backwards, whatever clock an event brings: deadlines are compared with it alone. After `Stopping`
nothing is answered. What must hold after each step is written down, and checked, in `peerd.testing.invariants`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

from msgspec.structs import replace

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core import dials, fetches, intake, middles, newcomer, round  # noqa: A004  # the module named by its noun
from peerd.core.dice import key_of, roll
from peerd.core.effects import AnyEffect, Forget, Repeat, Stop
from peerd.core.events import (
    AddressesChanged,
    AnnouncementHeard,
    AnyEvent,
    Assembled,
    AssemblyFailed,
    BanLifted,
    BlobFetched,
    Collaborated,
    CollaborationFailed,
    DialFailed,
    FetchFailed,
    MessageRefused,
    MiddleAnswered,
    MiddleAsked,
    MiddleCompared,
    MiddleFailed,
    PeerConnected,
    PeerDisconnected,
    PeerFound,
    Published,
    PublishFailed,
    PublishWithheld,
    Reannounced,
    StopAsked,
    TextChanged,
    Ticked,
    Trained,
    UpdateAdmitted,
    UpdateRefused,
    WorkerDied,
    WorkerStarted,
)
from peerd.core.limits import MAX_KNOWN_PEERS, MAX_SEEN, MAX_STANDINGS, REPEAT_SECONDS
from peerd.core.neighbours import Neighbour, Order, fitting
from peerd.core.offences import Standing, worth_keeping
from peerd.core.partial_view import chosen_anew
from peerd.core.phases import Stopping
from peerd.core.settings import Settings
from peerd.core.state import Moved, Node, lifted, needed
from peerd.wire.messages import Announcement, PeerRecord

__all__ = ["Node", "begin", "step"]


def begin(
    settings: Settings,
    me: PeerId,
    at: float,
    known_peers: Iterable[PeerRecord] = (),
    seen: Mapping[PeerId, Order] | None = None,
    own: Announcement | None = None,
    row: Mapping[PeerId, float] | None = None,
    standings: Mapping[PeerId, Standing] | None = None,
    *,
    proven: Mapping[PeerId, Iterable[str]] | None = None,
    listened_to: Mapping[PeerId, Round] | None = None,
    epoch: int = 0,
    said_before: Order = (-1, -1),
    secret: str = "",
) -> Moved:
    """A node before its first event. `known_peers` best first; `own` and `row` are the last ones of the run before.

    `standings`: bans of the runs before, on the clock of this one. `proven`: where known peers answered, as of
    `Neighbour.proven`. `listened_to`, `epoch`, `said_before`: as of `Node`. `secret`: what the lots of
    peers are drawn from.
    """
    lots = key_of(secret or me)
    orders = dict(list((seen or {}).items())[-MAX_SEEN:])
    neighbours: dict[PeerId, Neighbour] = {}
    for record in known_peers:
        if record.peer == me or len(neighbours) >= MAX_KNOWN_PEERS:
            continue
        neighbours[record.peer] = Neighbour(
            peer=record.peer,
            lot=roll(lots, "peer", record.peer),
            addresses=fitting(*record.addresses),
            proven=frozenset((proven or {}).get(record.peer, ())),
            remembered=True,
            seen=orders.pop(record.peer, (-1, -1)),
            dial_not_before=at,
        )
    node = Node(settings=settings, me=me, at=at, lots=lots, neighbours=neighbours, seen=orders, own=own)
    node = replace(node, began_at=at, listened_to=dict(listened_to or {}), epoch=epoch, said_before=said_before)
    node = replace(node, row=dict(row or {}), standings=worth_keeping(standings or {}, at, MAX_STANDINGS))
    return dials.start(replace(node, repeat_at=at + REPEAT_SECONDS))


def step(node: Node, event: AnyEvent) -> Moved:
    """The node after an event, and what is to be done about it."""
    if isinstance(node.phase, Stopping):
        return node, []
    now = replace(node, at=max(node.at, event.at))
    moved, effects = _happened(now, event)
    if moved is now and not effects and not isinstance(event, Ticked):
        return node, []  # gossip brings most things many times: what is no news costs no more than this
    for rule in (fetches.start, dials.start, round.advance, newcomer.advance, middles.start, _repeat, _forget):
        if isinstance(moved.phase, Stopping):
            break
        moved, more = rule(moved)
        effects = effects + more
    return moved, effects


def _happened(node: Node, event: AnyEvent) -> Moved:  # noqa: C901, PLR0911, PLR0912  # one line for each event
    match event:
        case WorkerStarted():
            return newcomer.worker_started(node, event)
        case WorkerDied():
            return round.worker_died(node, event)
        case Trained():
            return round.trained(node, event)
        case Published():
            return round.published(node, event)
        case Reannounced():
            return round.reannounced(node, event)
        case PublishFailed():
            return round.publish_failed(node, event)
        case PublishWithheld():
            return round.publish_withheld(node, event)
        case AnnouncementHeard():
            return intake.heard(node, event)
        case MessageRefused():
            return intake.message_refused(node, event)
        case PeerFound():
            return dials.found(node, event)
        case PeerConnected():
            return dials.connected(node, event)
        case PeerDisconnected():
            return dials.disconnected(node, event)
        case AddressesChanged():
            return dials.moved(node)
        case DialFailed():
            return dials.failed(node, event)
        case BlobFetched():
            return fetches.fetched(node, event)
        case FetchFailed():
            return fetches.failed(node, event)
        case UpdateAdmitted():
            return fetches.admitted(node, event)
        case UpdateRefused():
            return fetches.refused(node, event)
        case Collaborated():
            return round.collaborated(node, event)
        case CollaborationFailed():
            return round.collaboration_failed(node, event)
        case MiddleAsked():
            return middles.asked(node, event)
        case MiddleAnswered():
            return middles.answered(node, event)
        case MiddleCompared():
            return middles.compared(node, event)
        case MiddleFailed():
            return middles.failed(node, event)
        case Assembled():
            return newcomer.assembled(node, event)
        case AssemblyFailed():
            return newcomer.assembly_failed(node, event)
        case TextChanged():
            return round.text_changed(node, event)
        case BanLifted():
            return lifted(node, event.peer)
        case Ticked():
            node, effects = fetches.expire(dials.reconciled(node, event))
            return chosen_anew(middles.expire(dials.expire(node))), effects
        case StopAsked():
            return replace(node, phase=Stopping(reason=event.reason)), [Stop(reason=event.reason)]
        case _:
            assert_never(event)


def _repeat(node: Node) -> Moved:
    """Say my last announcement again, for peers that came late."""
    speaks = node.own is not None and node.own.network == node.network
    if not speaks or node.at < node.repeat_at or not any(known.connected for known in node.neighbours.values()):
        return node, []
    pause = REPEAT_SECONDS * (0.75 + 0.5 * roll(node.lots, "repeat", int(node.at)))
    return replace(node, repeated_at=node.at, repeat_at=node.at + pause), [Repeat()]


def _forget(node: Node) -> Moved:
    """Delete what nothing needs any more."""
    if not node.garbage:
        return node, []
    wanted = needed(node)
    useless: tuple[Digest, ...] = tuple(digest for digest in node.garbage if digest not in wanted)
    if not useless:
        return node, []
    kept = tuple(digest for digest in node.garbage if digest in wanted)
    effects: list[AnyEffect] = [Forget(digests=useless)]
    return replace(node, garbage=kept), effects
