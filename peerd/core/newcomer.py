"""What a newcomer does before its first round, if it was told to assemble: gather, assemble, then train as all do.

Once in the life of a home: a worker says whether anything was ever trained or assembled there (`WorkerStarted.is_new`),
and what was assembled is durable together with the state that training begins from. Before that nothing is written, so
a daemon or worker that dies meanwhile begins to gather anew, and after `MAX_MERGE_DEATHS` deaths of workers over
others' updates it trains as usual: they may have died of one.

Gathering ends with the first of these:

    as many updates as are ever merged        there is nothing to wait for
    one at least, nobody awaited or on the way, and none came for GATHER_SECONDS
    the deadline, `assemble_seconds` after the worker came: with what there is, or without

Nobody can hold a newcomer longer than the deadline; then it says so and trains. What it waits for is what everybody
waits for (`partial_view.awaited`), and that a transfer is on its way.
"""

from __future__ import annotations

from msgspec.structs import replace

from p2pfinetune.names import Round
from peerd.core import fetches, round  # noqa: A004  # the module named by its noun
from peerd.core.clocks import listening
from peerd.core.effects import Assemble, Note
from peerd.core.events import Assembled, AssemblyFailed, WorkerStarted
from peerd.core.limits import GATHER_SECONDS, MAX_MERGE_DEATHS
from peerd.core.partial_view import awaited, candidates
from peerd.core.patience import judged
from peerd.core.phases import Assembling, Gathering
from peerd.core.state import Moved, Node

DONE = "done"
NOBODY = "no neighbour answered within {seconds:.0f} s"


def worker_started(node: Node, event: WorkerStarted) -> Moved:
    """Gather, if this is a newcomer; else go on where the checkpoint stands."""
    node = round.opened(node, event)
    may = node.settings.assemble and event.is_new and not node.assembly and node.merge_deaths < MAX_MERGE_DEATHS
    node, effects = _gather(node, Round(max(1, event.round))) if may else round.go_on(node, event)
    node, inspections = fetches.inspect(node)
    return node, effects + inspections


def _gather(node: Node, round_: Round) -> Moved:
    phase = Gathering(round=round_, deadline=node.at + node.settings.assemble_seconds, since=node.at)
    note = Note(level="info", message="gathering what neighbours have, to assemble a first model of it")
    return replace(node, round=round_, round_began_at=node.at, phase=phase), [note]


def advance(node: Node) -> Moved:
    """Assemble as soon as there is nothing to wait for. A rule of each step: see `node`."""
    if not isinstance(phase := node.phase, Gathering):
        return node, []
    found = candidates(node)
    if len(found) != phase.held:
        phase = replace(phase, held=len(found), since=node.at)
        node = replace(node, phase=phase)
    if found and (len(found) >= node.settings.max_neighbours or node.at >= phase.deadline or _is_settled(node, phase)):
        digests = tuple(digest for one in found for digest in one.blobs)
        return replace(node, phase=Assembling(round=phase.round, digests=digests)), [Assemble(candidates=found)]
    if node.at >= phase.deadline:
        return _begin(node, phase.round, NOBODY.format(seconds=node.settings.assemble_seconds))
    return node, []


def _is_settled(node: Node, phase: Gathering) -> bool:
    on_the_way = any(known.transfer is not None for known in node.neighbours.values())
    return node.at >= phase.since + GATHER_SECONDS and not on_the_way and not awaited(node)


def assembled(node: Node, event: Assembled) -> Moved:
    """It is recorded, whatever the guard said of it; the first round begins."""
    if not isinstance(node.phase, Assembling):
        return node, []
    round_ = node.phase.round
    if event.accepted:
        node = replace(node, row=dict(event.row), listened_to=listening(node.listened_to, event.row, node.me, round_))
    node = replace(judged(node, event.figures.guard_personal), merge_deaths=0, assembly=DONE)
    return round.begin(node, round_)


def assembly_failed(node: Node, event: AssemblyFailed) -> Moved:
    """Train as usual; said, and not tried again in this run."""
    if not isinstance(node.phase, Assembling):
        return node, []
    return _begin(replace(node, merge_deaths=0), node.phase.round, event.reason)


def _begin(node: Node, round_: Round, reason: str) -> Moved:
    note = Note(level="warning", message=f"no first model was assembled: {reason}; training as usual")
    node, effects = round.begin(replace(node, assembly=reason), round_)
    return node, [note, *effects]
