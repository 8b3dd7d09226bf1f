"""My own words, come from elsewhere: another daemon runs with my identity, or this home has forgotten what it said.

A neighbour that is asked hands back the newest announcement that it knows of another run of mine (the protocol's
echo), so each home is told. Only what my own key has signed comes this far, and only what this home did not say
counts: of another epoch than this run's, and above every number that was given before it. What was sealed after I
began is of a double, which runs now; what was sealed before, of a life that this home does not remember, because it
was restored from a copy. A stranger can bring either to me a second time, for as long as an announcement is fresh, and
cannot make it up.
"""

from __future__ import annotations

from msgspec.structs import replace

from peerd.core.effects import AnyEffect, Note
from peerd.core.events import AnnouncementHeard
from peerd.core.limits import DOUBLE_SECONDS, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS
from peerd.core.state import Double, Moved, Node


def heard(node: Node, event: AnnouncementHeard) -> Moved:
    """An announcement with my own signature."""
    said, age = event.announcement, event.age_seconds
    is_mine = said.epoch == node.epoch or said.order <= node.said_before
    if is_mine or age < -MAX_AHEAD_SECONDS:
        return node, []
    if age < node.at - node.began_at:
        if age > MAX_AGE_SECONDS:
            return node, []
        message = "another daemon runs with this identity; others hear only one of the two: see peerd status"
        notes: list[AnyEffect] = [Note(level="warning", message=message)] if running(node) is None else []
        return replace(node, double=Double(heard_at=node.at, round=said.round, addresses=said.addresses)), notes
    if said.round <= max(node.lost, node.resumed - 1):
        return node, []
    message = f"this home was restored from a copy: others have heard of its round {said.round}"
    return replace(node, lost=said.round), [Note(level="warning", message=message)]


def running(node: Node) -> Double | None:
    """A double that was heard of lately."""
    double = node.double
    return double if double is not None and node.at < double.heard_at + DOUBLE_SECONDS else None
