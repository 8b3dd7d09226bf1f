"""One round's mathematics: my adapter and my neighbours' to a trust row and a merged adapter. Pure composition."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfinetune.adapter import Adapter
from p2pfinetune.merge import MergeRule
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.trust import TrustContext, TrustScheme


def collaborate(
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    scheme: TrustScheme,
    rule: MergeRule,
    context: TrustContext,
    allowed: frozenset[PeerId] | None = None,
) -> tuple[TrustRow, Adapter]:
    """The row over me and all neighbours, and the merge by it; the very object `own` where nobody else weighs anything.

    The rule sees only peers that weigh something, so that one who is not listened to cannot disturb the arithmetic.
    """
    row = scheme.row(me, {**neighbours, me: own}, context, allowed)
    return row, merged_by(row, me, own, neighbours, rule)


def merged_by(
    row: TrustRow, me: PeerId, own: Adapter, neighbours: Mapping[PeerId, Adapter], rule: MergeRule
) -> Adapter:
    """The merge by a row; the very object `own` where nobody else weighs anything."""
    heard = {peer: weight for peer, weight in row.weights.items() if weight > 0.0}
    if heard.keys() == {me}:
        return own
    adapters = {**neighbours, me: own}
    return rule.merge(TrustRow(heard), {peer: adapters[peer] for peer in heard}, own)


def held_back(row: TrustRow, me: PeerId, part: float) -> TrustRow:
    """The row on the way from my own adapter to it: `part` 1 is the row itself, 0 all weight on me."""
    weights = {peer: part * weight for peer, weight in row.weights.items()}
    weights[me] += 1.0 - part
    return TrustRow(weights)
