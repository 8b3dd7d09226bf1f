"""What is checked of an announcement before a byte of its blob is fetched. Refusals are counted, nothing is raised."""

from __future__ import annotations

from msgspec.structs import replace

from peerd.core.events import AnnouncementHeard, MessageRefused
from peerd.core.limits import (
    ANNOUNCEMENT_BURST,
    ANNOUNCEMENTS_A_SECOND,
    FOREIGN_SECONDS,
    STRANGER_BURST,
    STRANGERS_A_SECOND,
)
from peerd.core.neighbours import Neighbour, clean_name, proven_first
from peerd.core.state import Moved, Node, is_banned, put, refuse, welcome
from peerd.wire.messages import Announcement


def heard(node: Node, event: AnnouncementHeard) -> Moved:
    """Take the announcement for the newest of its peer, or refuse it."""
    said = event.announcement
    if said.peer == node.me or node.network is None or is_banned(node, said.peer):
        return node, []  # what comes before the worker has named the network is repeated by its sender
    known = node.neighbours.get(said.peer)
    if known is not None and known.latest == said:
        return node, []  # gossip brings the same message many times
    if known is None:
        return _from_stranger(node, said)
    return _from_known(node, known, said)


def _from_stranger(node: Node, said: Announcement) -> Moved:
    rest = node.strangers.take(node.at, STRANGER_BURST, STRANGERS_A_SECOND)
    if rest is None:
        return replace(node, dropped=node.dropped + 1), []
    node = replace(node, strangers=rest)
    if said.network != node.network:
        return refuse(node, said.peer, "other-network")
    node, known = welcome(node, said.peer, connected=False)
    if known is None:
        return replace(node, dropped=node.dropped + 1), []
    return _from_known(node, known, said)


def _from_known(node: Node, known: Neighbour, said: Announcement) -> Moved:
    rest = known.bucket.take(node.at, ANNOUNCEMENT_BURST, ANNOUNCEMENTS_A_SECOND)
    if rest is None:
        return refuse(node, known.peer, "rate")
    known = replace(known, bucket=rest)
    reason = _why_not(node, known, said)
    if not reason:
        return put(node, _taken(node, known, said)), []
    if reason == "other-network":
        known = replace(known, dial_not_before=node.at + FOREIGN_SECONDS)
    return refuse(put(node, known), known.peer, reason)


def _why_not(node: Node, known: Neighbour, said: Announcement) -> str:
    if said.network != node.network:
        return "other-network"
    order = said.order
    if order < known.seen:
        return "replay"
    if known.latest is not None and order == known.latest.order:
        return "equivocation"  # two announcements under one number
    largest = node.max_blob_bytes.get(said.codec)
    if largest is None:
        return "unknown-codec"
    return "oversize" if said.size > largest else ""


def _taken(node: Node, known: Neighbour, said: Announcement) -> Neighbour:
    admitted = known.admitted
    if admitted is not None and (admitted.digest, admitted.codec) == (said.blob, said.codec):
        admitted = replace(admitted, round=said.round, order=said.order, heard_at=node.at)  # nothing to fetch
    return replace(
        known,
        name=clean_name(said.name),
        addresses=proven_first(said.addresses, known.addresses),
        latest=said,
        heard_at=node.at,
        seen=said.order,
        admitted=admitted,
        missed=known.missed + (known.fetch_failures > 0),
        fetch_failures=0,
        origin_only=False,
    )


def message_refused(node: Node, event: MessageRefused) -> Moved:
    """Bytes that never became a message."""
    if event.peer == node.me or is_banned(node, event.peer):
        return node, []
    return refuse(node, event.peer, event.reason)
