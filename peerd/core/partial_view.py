"""Whose updates a node wants: the best few of the peers that announce, so that a crowd costs no more than a few.

The word is that of peer sampling (Cyclon, Voulgaris et al. 2005; HyParView, Leitao et al. 2007): a small part of the
network that a node works with, in place of all of it. The way there differs. Those protocols exchange their views, and
whoever lies in an exchange fills the views of others; here nobody says who is good. Gossip brings everybody's
announcements, and each node picks by what it has measured itself: standing, its own trust row, reliability.

- *Exploit:* a peer with weight in my last row keeps its place, unless it is throttled.
- *Explore:* places that no trust holds go to peers that are reliable and announce, by lot, every `PARTIAL_VIEW_ROUNDS`
  rounds anew: time enough to be fetched, merged and judged. Lots are keyed (`dice`), so a crowd of made-up ids wins as
  often as its share of ids and no oftener, and has to win again and again, since useless updates get no trust.

There are three sets, each within the one before: *heard* (a recent announcement), the *view* (`max_neighbours` of them,
chosen once a tick), and the *awaited* (live, and nothing fresh from them yet). A merge takes the best admitted updates,
whether or not their peers are still in the view: what was fetched and is fresh enough is not thrown away.
"""

from __future__ import annotations

from msgspec.structs import replace

from p2pfinetune.names import PeerId
from peerd.core.dice import roll
from peerd.core.effects import Candidate
from peerd.core.limits import PARTIAL_VIEW_ROUNDS
from peerd.core.neighbours import Neighbour, Update
from peerd.core.state import Node, throttled


def partial_view(node: Node) -> list[Neighbour]:
    """At most `max_neighbours` peers with a recent announcement: all there are, or those chosen at the last tick."""
    heard = _heard(node)
    if len(heard) <= node.settings.max_neighbours:
        return heard
    chosen = node.partial_view or _best(node, heard)
    return [known for known in heard if known.peer in chosen]


def chosen_anew(node: Node) -> Node:
    """The node with its partial view chosen again; once a second is soon enough, and cheaper than at every event."""
    heard = _heard(node)
    return replace(node, partial_view=_best(node, heard) if len(heard) > node.settings.max_neighbours else frozenset())


def _heard(node: Node) -> list[Neighbour]:
    oldest = node.at - node.settings.staleness_seconds
    return [known for known in node.neighbours.values() if known.latest is not None and known.heard_at >= oldest]


def _best(node: Node, heard: list[Neighbour]) -> frozenset[PeerId]:
    """Good standing first, then trusted, then reliable; the places left are drawn by lot, every few rounds anew.

    So a crowd whose updates are of no use holds no place for long, and everybody is tried in the end.
    """
    spread = roll(node.lots, "partial view", node.round // PARTIAL_VIEW_ROUNDS) * 2**30
    ranked = [
        (
            throttled(node, known.peer),
            -node.row.get(known.peer, 0.0),
            known.unreliability,
            not is_announcing(node, known),
            known.lot * spread % 1.0,
            known.peer,
        )
        for known in heard
    ]
    ranked.sort()
    return frozenset(rank[-1] for rank in ranked[: node.settings.max_neighbours])


def candidates(node: Node) -> tuple[Candidate, ...]:
    """Who takes part in a merge now: best trusted in my last row, then freshest, then by id; nobody twice."""
    oldest = node.at - node.settings.staleness_seconds
    usable = [
        (-node.row.get(known.peer, 0.0), -known.admitted.heard_at, known.peer, known.admitted)
        for known in node.neighbours.values()
        if known.admitted is not None and known.admitted.heard_at >= oldest
    ]
    usable.sort(key=lambda entry: entry[:3])
    return tuple(_candidate(node, peer, update) for _, _, peer, update in usable[: node.settings.max_neighbours])


def _candidate(node: Node, peer: PeerId, update: Update) -> Candidate:
    return Candidate(
        peer=peer,
        digest=update.digest,
        codec=update.codec,
        base=update.base,
        round=update.round,
        age_seconds=max(0.0, node.at - update.heard_at),
    )


def is_announcing(node: Node, known: Neighbour) -> bool:
    """Heard of lately, measured by my own rounds."""
    window = max(3 * node.settings.collect_seconds, 2 * node.round_seconds)
    return known.latest is not None and known.heard_at >= node.at - window


def is_live(node: Node, known: Neighbour) -> bool:
    """Connected, of my network, announcing of late, and its updates can be had: worth waiting for."""
    return known.connected and is_announcing(node, known) and not known.is_given_up


def awaited(node: Node) -> list[Neighbour]:
    """Live neighbours that have brought nothing new since my last merge."""
    return [known for known in partial_view(node) if is_live(node, known) and not known.is_fresh]
