"""What a node tells people about itself: its state as a word, as a sentence with the reason, and what comes next.

Words for people are made from the state and are never part of it: the core decides by values alone, and a sentence may
change without a stored state becoming another. `next_deadline` is the longest that a page may stay as it is.
"""

from __future__ import annotations

from typing import assert_never

from p2pfinetune.names import PeerId
from peerd.core.dials import direct
from peerd.core.partial_view import awaited, is_live, partial_view
from peerd.core.phases import (
    Assembling,
    Collecting,
    Gathering,
    Merging,
    Publishing,
    Resting,
    Starting,
    Stopping,
    Training,
)
from peerd.core.state import Node, is_banned, throttled


def state(node: Node) -> str:
    """The `state` of `peerd.status.Status`."""
    return {
        Starting: "starting",
        Gathering: "gathering",
        Assembling: "assembling",
        Training: "training",
        Publishing: "publishing",
        Collecting: "collecting",
        Merging: "merging",
        Resting: "resting",
        Stopping: "stopping",
    }[type(node.phase)]


def sentence(node: Node) -> str:
    """The state in plain words, with why."""
    return _doing(node) + (f"; not publishing: {node.withheld}" if node.withheld else "")


def _doing(node: Node) -> str:  # noqa: PLR0911  # one line for each phase
    match node.phase:
        case Starting(reason=""):
            return "loading the model and your text"
        case Starting(reason=reason):
            return f"starting the worker again: it died ({reason})"
        case Gathering(held=held, deadline=deadline):
            left = max(0, round(deadline - node.at))
            return f"gathering neighbours' adapters to assemble a first model: {held} so far, {left} s left at most"
        case Assembling():
            return "assembling a first model of pieces of neighbours' adapters"
        case Training(round=round_):
            return f"training round {round_}{_company(node)}"
        case Publishing(round=round_):
            return f"publishing round {round_}"
        case Collecting(deadline=deadline):
            return _waiting(node, deadline)
        case Merging(digests=()):
            return f"measuring round {node.round}{_company(node)}"
        case Merging(digests=digests):
            return f"scoring and merging {_some(len(digests), 'update')} in round {node.round}"
        case Resting(reason=reason):
            return f"resting: {reason}; still serving and merging{_company(node)}"
        case Stopping(reason=reason):
            return f"stopping: {reason}"
        case _:
            assert_never(node.phase)


def _waiting(node: Node, deadline: float) -> str:
    missing = awaited(node)
    live = [known for known in partial_view(node) if is_live(node, known)]
    left = max(0, round(deadline - node.at))
    return f"waiting for {len(missing)} of {_some(len(live), 'neighbour')}, {left} s left"


def _company(node: Node) -> str:
    connected = sum(known.connected for known in node.neighbours.values())
    if connected:
        return f", {_some(connected, 'peer')} connected"
    if not node.neighbours:
        return ", alone: no peer found yet"
    behind = sum([bool(known.addresses) and not direct(known) for known in node.neighbours.values()])
    relayed = f" ({behind} behind a relay, which this version cannot dial)" if behind else ""
    return f", alone: none of {_some(len(node.neighbours), 'known peer')} is connected{relayed}"


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def standing(node: Node, peer: PeerId) -> str:
    """The `standing` of `peerd.status.NeighbourNow`."""
    return "banned" if is_banned(node, peer) else "throttled" if throttled(node, peer) else "good"


def next_deadline(node: Node) -> float | None:
    """When the passing of time alone will change something next (monotonic seconds); None if it will not."""
    times = [node.repeat_at] if node.own is not None else []
    match node.phase:
        case Collecting(deadline=deadline) | Gathering(deadline=deadline):
            times.append(deadline)
        case Resting(fresh_since=float() as since):
            times.append(since + node.settings.collect_seconds)
        case _:
            pass
    for known in node.neighbours.values():
        if known.transfer is None and known.latest is not None and known.fetch_not_before > node.at:
            times.append(known.fetch_not_before)
        if not known.connected and direct(known) and known.dialling_since is None:
            standing = node.standings.get(known.peer)
            times.append(max(known.dial_not_before, standing.until if standing is not None else known.dial_not_before))
    return min(times, default=None)
