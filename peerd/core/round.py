"""One round: train, publish, collect, merge; or rest. Waiting always has an end. `phases` has the state diagram.

Rounds are each peer's own: there is no common clock, no coordinator and no barrier, as in gossip learning (Ormandi,
Hegedus and Jelasity, 2013). When its own training is done, a peer merges with the newest updates that it holds. It
waits for neighbours only if they are worth waiting for (connected, announcing at the pace of its own rounds, not given
up: `partial_view.is_live`), and never beyond `collect_seconds`. So a slow peer costs the others seconds, and none once
it has fallen two of their rounds behind; to wait for all, as synchronous averaging does, would let one laptop that
sleeps hold everybody.

Decisions that are made here, and why:

- *A round goes on whatever fails.* Publishing or merging that fails costs a note and that step, never the training.
- *Own updates are paced* (`OWN_A_SECOND`, half of what others take from one peer), so that rounds of a second do not
  get an honest peer refused for its rate. A round that may not speak is merged all the same.
- *Resting is not stopping.* When patience or the user's limits end the training, the peer goes on to serve, fetch and
  merge, since its neighbours may still improve; only `Train` is left out.
- *A worker that dies while merging may die of what it merges.* After `MAX_MERGE_DEATHS` in a row the round is merged
  without neighbours, or one poisonous update would restart the worker for ever.
- *A copy is named, not punished* (`copies_of`): who said it first is known only as well as this peer has heard it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from p2pfinetune.names import PeerId, Round
from peerd.core import fetches
from peerd.core.clocks import listening
from peerd.core.effects import AnyEffect, Collaborate, Note, Publish, Train
from peerd.core.events import (
    Collaborated,
    CollaborationFailed,
    Published,
    PublishFailed,
    PublishWithheld,
    Reannounced,
    TextChanged,
    Trained,
    WorkerDied,
    WorkerStarted,
)
from peerd.core.limits import MAX_MERGE_DEATHS, OWN_A_SECOND, OWN_BURST, REPEAT_SECONDS
from peerd.core.partial_view import awaited, candidates
from peerd.core.patience import exhausted, judged, why_rest
from peerd.core.phases import Assembling, Collecting, Merging, Publishing, Resting, Starting, Training
from peerd.core.state import Moved, Node, discard, put


def opened(node: Node, event: WorkerStarted) -> Node:
    """The node with what a worker says of itself, the first one of a run above all."""
    return replace(
        node,
        network=event.network,
        max_blob_bytes=event.max_blob_bytes,
        difference_codecs=event.difference_codecs,
        pairing=event.pairing,
        resumed=event.round if node.network is None else node.resumed,
        steps=max(node.steps, event.steps),
        best=event.best_guard if node.network is None else node.best,
        waited_rounds=event.waited_rounds if node.network is None else node.waited_rounds,
        round_began_at=event.at if node.network is None else node.round_began_at,
    )


def go_on(node: Node, event: WorkerStarted) -> Moved:
    """Where the last durable checkpoint stands, in this run or in one before."""
    round_ = Round(max(1, event.round))
    return _publish(node, round_) if event.trained else begin(node, round_)


def worker_died(node: Node, event: WorkerDied) -> Moved:
    """Wait for the next one; nothing that was durable is lost.

    Deaths are counted only while merging or assembling, when others' updates may be the cause; for those that are being
    inspected `fetches.worker_lost` has a pause.
    """
    deaths = node.merge_deaths + isinstance(node.phase, Merging | Assembling)
    node = fetches.worker_lost(replace(node, phase=Starting(reason=event.reason or "unknown"), merge_deaths=deaths))
    return node, [Note(level="warning", message=f"the worker died ({event.reason}); it is being started again")]


def begin(node: Node, round_: Round) -> Moved:
    """Train the round, or rest."""
    node = replace(node, round=round_, round_began_at=node.at)
    if reason := why_rest(node, round_):
        was_resting = isinstance(node.phase, Merging) and node.phase.rests
        node = replace(node, phase=Resting(round=round_, reason=reason))
        return node, [] if was_resting else [Note(level="info", message=f"training rests: {reason}")]
    steps = node.settings.steps_per_round
    if node.settings.total_steps:
        steps = min(steps, node.settings.total_steps - node.steps)
    return replace(node, phase=Training(round=round_, began_at=node.at)), [Train(round=round_, steps=steps)]


def trained(node: Node, event: Trained) -> Moved:
    """The own training of this round is durable."""
    if not isinstance(node.phase, Training) or node.phase.round != event.round:
        return node, []
    return _publish(replace(node, steps=node.steps + event.steps), event.round)


def _publish(node: Node, round_: Round) -> Moved:
    node = replace(node, round=round_)
    rest = node.speech.take(node.at, OWN_BURST, OWN_A_SECOND)
    if rest is None:  # rounds of a second or two: others would take so many announcements for a flood
        return _collect(node, round_)
    return replace(node, phase=Publishing(round=round_, began_at=node.at), speech=rest), [Publish(round=round_)]


def published(node: Node, event: Published) -> Moved:
    """The own update is out: see what the neighbours have."""
    before = node.own.blobs if node.own is not None else ()
    if before != event.announcement.blobs:
        node = replace(discard(node, node.own_before), own_before=before)
    node = replace(node, own=event.announcement, repeated_at=node.at, repeat_at=node.at + REPEAT_SECONDS, withheld="")
    if not isinstance(node.phase, Publishing) or node.phase.round != event.announcement.round:
        return node, []
    return _collect(node, node.phase.round)


def reannounced(node: Node, event: Reannounced) -> Moved:
    """The same update under a newer number. What is older than the own announcement by now comes too late."""
    said = event.announcement
    if node.own is None or node.own.blob != said.blob or said.order < node.own.order:
        return node, []
    return replace(node, own=said), []


def publish_failed(node: Node, event: PublishFailed) -> Moved:
    """Nobody hears of this round; it goes on all the same."""
    if not isinstance(node.phase, Publishing) or node.phase.round != event.round:
        return node, []
    note = Note(level="warning", message=f"round {event.round} could not be published: {event.reason}")
    node, effects = _collect(node, event.round)
    return node, [note, *effects]


def publish_withheld(node: Node, event: PublishWithheld) -> Moved:
    """Nobody hears of this round, nor of the next ones; all else goes on. Said once."""
    if not isinstance(node.phase, Publishing) or node.phase.round != event.round:
        return node, []
    notes = [Note(level="warning", message=f"not publishing any more: {event.reason}")] if not node.withheld else []
    node, effects = _collect(replace(node, withheld=event.reason), event.round)
    return node, [*notes, *effects]


def _collect(node: Node, round_: Round) -> Moved:
    if round_ <= node.settings.warmup_rounds:
        return _merge(node, round_, warming_up=True)
    return replace(node, phase=Collecting(round=round_, deadline=node.at + node.settings.collect_seconds)), []


def advance(node: Node) -> Moved:
    """Merge as soon as nobody is waited for any more. A rule of each step: see `node`."""
    match node.phase:
        case Collecting(round=round_, deadline=deadline):
            if node.at >= deadline or not awaited(node):
                return _merge(node, round_)
        case Resting() as rest:
            return _advance_rest(node, rest)
        case _:
            pass
    return node, []


def _advance_rest(node: Node, rest: Resting) -> Moved:
    fresh = any(node.neighbours[candidate.peer].is_fresh for candidate in candidates(node))
    if not fresh:
        return (node, []) if rest.fresh_since is None else (replace(node, phase=replace(rest, fresh_since=None)), [])
    if rest.fresh_since is None:
        rest = replace(rest, fresh_since=node.at)
        node = replace(node, phase=rest)
    if rest.fresh_since is not None and node.at < rest.fresh_since + node.settings.collect_seconds and awaited(node):
        return node, []
    return _merge(node, rest.round, rests=True)


def _merge(node: Node, round_: Round, *, rests: bool = False, warming_up: bool = False) -> Moved:
    suspect = node.merge_deaths >= MAX_MERGE_DEATHS
    chosen = () if warming_up or suspect else candidates(node)
    neighbours = dict(node.neighbours)
    for candidate in chosen:
        known = neighbours[candidate.peer]
        if known.admitted is not None:
            neighbours[known.peer] = replace(known, used=known.admitted.order)
    notes = [Note(level="warning", message="the worker died merging; this round goes without neighbours")] * suspect
    if not chosen and not node.alone_is_said and not any(known.connected for known in neighbours.values()):
        notes.append(Note(level="info", message="training alone: no peer found yet"))
        node = replace(node, alone_is_said=True)
    products = node.products if chosen else {}
    blobs = tuple(digest for one in chosen for digest in one.blobs)
    phase = Merging(round=round_, digests=blobs, products=products, rests=rests)
    node = replace(node, phase=phase, neighbours=neighbours)
    return node, [*notes, Collaborate(round=round_, candidates=chosen, products=products)]


def collaborated(node: Node, event: Collaborated) -> Moved:
    """The round is over and recorded."""
    if not isinstance(node.phase, Merging) or node.phase.round != event.round:
        return node, []
    used = node.phase.products
    left = {peer: product - used.get(peer, 0.0) for peer, product in node.products.items() if product != used.get(peer)}
    node = replace(node, products=left)
    node = replace(node, row=dict(event.row), merge_deaths=0, round_seconds=node.at - node.round_began_at)
    node = replace(node, listened_to=listening(node.listened_to, event.row, node.me, event.round))
    node, refusals = _compared(node, event)
    node, effects = begin(judged(node, event.figures.guard_personal), Round(event.round + 1))
    return node, refusals + effects


def _compared(node: Node, event: Collaborated) -> Moved:
    """What the updates said of each other: outliers are set aside, copies remembered until the next merge."""
    merged = {known.peer for known in node.neighbours.values() if known.peer in event.row}
    copied = copies_of(node, event.copies)
    for peer in merged:
        node = put(node, replace(node.neighbours[peer], copy_of=copied.get(peer)))
    effects: list[AnyEffect] = []
    for peer, reason in sorted(event.refused.items()):
        node, counted = fetches.set_aside(node, peer, reason)
        effects += counted
    return node, effects


def copies_of(node: Node, pairs: Iterable[tuple[PeerId, PeerId]]) -> dict[PeerId, PeerId]:
    """Copier to original. I copy nobody; of two others, the one that said its own later is the likelier copy."""

    def heard(peer: PeerId) -> tuple[float, PeerId]:
        known = node.neighbours.get(peer)
        if known is None or known.admitted is None:
            return (node.at if peer != node.me else float("-inf"), peer)
        return (known.admitted.first_heard_at, peer)

    found: dict[PeerId, PeerId] = {}
    for pair in pairs:
        original, copier = sorted(pair, key=heard)
        if copier not in found or heard(original) < heard(found[copier]):
            found[copier] = original
    return found


def collaboration_failed(node: Node, event: CollaborationFailed) -> Moved:
    """The round ends with the own adapter."""
    if not isinstance(node.phase, Merging) or node.phase.round != event.round:
        return node, []
    note = Note(level="warning", message=f"round {event.round} could not be merged: {event.reason}")
    node, effects = begin(replace(node, merge_deaths=0), Round(event.round + 1))
    return node, [note, *effects]


def text_changed(node: Node, _: TextChanged) -> Moved:
    """Losses on other text cannot be compared, so patience begins anew."""
    node = replace(node, best=None, waited_rounds=0)
    if isinstance(node.phase, Resting) and not exhausted(node, node.phase.round):
        return begin(node, node.phase.round)
    return node, []
