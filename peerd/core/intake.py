"""What is checked of an announcement before a byte of its blob is fetched. Refusals are counted, nothing is raised.

The checks go from cheap to dear and from "whose fault is it" to "how much": what anybody could have repeated is sorted
out before a check that costs its peer anything.

    signature (the shell) -> banned? -> known? -> the same again? -> network -> replay -> clock
        -> rate of its peer -> equivocation -> codec -> base -> size -> quota -> taken: `Neighbour.latest`

*The rule that refuses a replay* is one comparison: `said.order < known.seen`. The order is (epoch, sequence); the epoch
rises with each run of a home and the sequence with each announcement (ADR 0017). `Neighbour.seen`, the newest order
heard, outlives the entry (it moves to `Node.seen`) and a ban. Invariant: `latest.order <= seen`. What outlives a
restart is less: the newest order whose update was *admitted* (`Store.save_seen`, called from `daemon.perform`). For
orders between the two, and for a peer that never heard of the order, age bounds what can be believed: announcements are
fresh for `MAX_AGE_SECONDS` (ADR 0013).

A stranger gets an entry only with an announcement that has no fault, through one bucket for all strangers together: ids
are free, so a limit for each of them would bound nothing.
"""

from __future__ import annotations

from msgspec.structs import replace

from peerd.core import dials, doubles
from peerd.core.clocks import FROM_THE_FUTURE, STALE, told_by, why_untimely
from peerd.core.events import AnnouncementHeard, MessageRefused
from peerd.core.limits import (
    ANNOUNCEMENT_BURST,
    ANNOUNCEMENTS_A_SECOND,
    FOREIGN_SECONDS,
    STRANGER_BURST,
    STRANGERS_A_SECOND,
    THROTTLED_COST,
)
from peerd.core.neighbours import Neighbour, clean_name, with_claims
from peerd.core.quota import charged
from peerd.core.state import Moved, Node, is_banned, put, refuse, throttled, welcome
from peerd.wire.messages import Announcement

UNTIMELY = (STALE, FROM_THE_FUTURE)
OTHER_NETWORK, REPLAY = "other-network", "replay"
REPEATABLE = (OTHER_NETWORK, REPLAY, *UNTIMELY)
"""What anybody can bring about with words that a peer once said; it costs that peer no token and weighs nothing."""


def heard(node: Node, event: AnnouncementHeard) -> Moved:
    """Take the announcement for the newest of its peer, or refuse it.

    The signature has been verified. Then, in this order: network, replay, freshness; how often its peer may speak;
    equivocation, codec, size, quota. What anybody may have repeated in its name does not count against how often it
    may speak: nobody shall have an honest peer silenced or banned with its own words.
    """
    said = event.announcement
    if said.peer == node.me:
        return doubles.heard(node, event)
    if node.network is None or is_banned(node, said.peer):
        return node, []  # what comes before the worker has named the network is repeated by its sender
    known = node.neighbours.get(said.peer)
    if known is None:
        return _from_stranger(node, event)
    if known.latest is not None and said.repeats(known.latest):
        return _clock_noted(node, known, event), []  # gossip brings the same message many times
    return _judged(node, known, event, _why_not(node, known, event))


def _from_stranger(node: Node, event: AnnouncementHeard) -> Moved:
    """Only an announcement without a fault is worth an entry in the table."""
    said = event.announcement
    rest = node.strangers.take(node.at, STRANGER_BURST, STRANGERS_A_SECOND)
    if rest is None:
        return replace(node, dropped=node.dropped + 1), []
    node = replace(node, strangers=rest)
    unknown = Neighbour(peer=said.peer, lot=0.0, seen=node.seen.get(said.peer, (-1, -1)))
    if reason := _why_not(node, unknown, event):
        return refuse(node, said.peer, reason)
    node, known = welcome(node, said.peer, connected=False)
    if known is None:
        return replace(node, dropped=node.dropped + 1), []
    return _judged(node, known, event, reason="")


def _judged(node: Node, known: Neighbour, event: AnnouncementHeard, reason: str) -> Moved:
    """`reason`: what is wrong with it; empty if nothing is. What is repeatable is refused before it costs a token."""
    if reason in REPEATABLE:
        if event.via == known.peer:  # what others repeat says nothing about its network and its clock of today
            known = _as_it_says(node, known, event, reason)
        return refuse(put(node, known), known.peer, reason)
    is_slowed = throttled(node, known.peer)
    cost = THROTTLED_COST if is_slowed else 1.0
    rest = known.bucket.take(node.at, ANNOUNCEMENT_BURST, ANNOUNCEMENTS_A_SECOND, cost)
    if rest is None:
        return refuse(node, known.peer, "throttled" if is_slowed else "rate")
    known = replace(known, bucket=rest)
    if reason:
        return refuse(put(node, known), known.peer, reason)
    return put(node, replace(_taken(node, known, event.announcement), clock_off=0.0)), []


def _as_it_says(node: Node, known: Neighbour, event: AnnouncementHeard, reason: str) -> Neighbour:
    """What a refused announcement tells of its peer, from whom it came without a third."""
    if reason == OTHER_NETWORK:
        return replace(known, dial_not_before=node.at + FOREIGN_SECONDS)
    return replace(known, clock_off=told_by(event.age_seconds)) if reason in UNTIMELY else known


def _why_not(node: Node, known: Neighbour, event: AnnouncementHeard) -> str:
    said = event.announcement
    if said.network != node.network:
        return OTHER_NETWORK
    if said.order < known.seen:
        return REPLAY
    if untimely := why_untimely(event.age_seconds):
        return untimely
    if known.latest is not None and said.order == known.latest.order:
        return "equivocation"  # two announcements under one number
    largest = node.max_blob_bytes.get(said.codec)
    if largest is None:
        return "unknown-codec"
    if said.base is not None and said.codec not in node.difference_codecs:
        return "base"
    if max(said.size, said.base_size) > largest:
        return "oversize"
    return "quota" if charged(node, known, said.size + said.base_size) is None else ""


def _clock_noted(node: Node, known: Neighbour, event: AnnouncementHeard) -> Node:
    """What was taken already does no harm whenever it comes; but a clock that was set shows in repetitions, too."""
    if event.via != known.peer:
        return node
    off = told_by(event.age_seconds)
    if bool(off) == bool(known.clock_off):
        return node
    return put(node, replace(known, clock_off=off))


def _taken(node: Node, known: Neighbour, said: Announcement) -> Neighbour:
    admitted, used = known.admitted, known.used
    if admitted is not None and (admitted.digest, admitted.codec, admitted.base) == (said.blob, said.codec, said.base):
        used = used if known.is_fresh else said.order  # what a merge has had is nothing new under a new number
        admitted = replace(admitted, round=said.round, order=said.order, heard_at=node.at)  # nothing to fetch
    return replace(
        known,
        name=clean_name(said.name),
        addresses=with_claims(known, said.addresses),
        dial_not_before=dials.when_heard(node, known),
        latest=said,
        heard_at=node.at,
        seen=said.order,
        admitted=admitted,
        used=used,
        missed=known.missed + (known.fetch_failures > 0),
        lost_base=known.lost_base if said.base == known.lost_base else None,
        fetch_failures=0,
    )


def message_refused(node: Node, event: MessageRefused) -> Moved:
    """Bytes that never became a message."""
    if event.peer == node.me or is_banned(node, event.peer):
        return node, []
    return refuse(node, event.peer, event.reason)
