"""How much of one peer is fetched in an hour, and how many admitted updates are kept on disk.

Both bounds are in terms of the largest blob of this network, which the own worker knows and no peer can choose: with
`size <= max_blob_bytes` (checked in `intake`) and `held_at_most` updates the disk that peers can fill is known before
anybody is met. Traffic is a bucket of bytes for each peer; its level is a part of `quota_bytes`, so that the quota may
change with the network without a bucket being rewritten.
"""

from __future__ import annotations

from msgspec.structs import replace

from peerd.core.limits import HELD_NEIGHBOURHOODS, QUOTA_BLOBS, QUOTA_BYTES, QUOTA_SECONDS
from peerd.core.neighbours import Neighbour
from peerd.core.partial_view import candidates, partial_view
from peerd.core.state import Node, discard, put
from peerd.pacing import Bucket


def quota_bytes(node: Node) -> float:
    """Of one peer, at once and in QUOTA_SECONDS of the long run."""
    return max(QUOTA_BYTES, QUOTA_BLOBS * max(node.max_blob_bytes.values(), default=0))


def charged(node: Node, known: Neighbour, size: int) -> Bucket | None:
    """The peer's quota after so many bytes more; None if they are too many."""
    return known.quota.take(node.at, 1.0, 1.0 / QUOTA_SECONDS, size / quota_bytes(node))


def held_at_most(node: Node) -> int:
    """Admitted updates on disk: each, and what it is a difference to, is no larger than the largest blob here."""
    return HELD_NEIGHBOURHOODS * node.settings.max_neighbours


def within_disk(node: Node) -> Node:
    """Where too many admitted updates are kept, without those heard longest ago that no merge wants now."""
    held = [(known.peer, known.admitted) for known in node.neighbours.values() if known.admitted is not None]
    excess = len(held) - held_at_most(node)
    if excess <= 0:
        return node
    wanted = {candidate.peer for candidate in candidates(node)} | {known.peer for known in partial_view(node)}
    spare = [(update.heard_at, peer, update.blobs) for peer, update in held if peer not in wanted]
    for _, peer, blobs in sorted(spare)[:excess]:
        node = discard(put(node, replace(node.neighbours[peer], admitted=None)), blobs)
    return node
