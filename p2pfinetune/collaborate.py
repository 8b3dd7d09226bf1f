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
    adapters = {**neighbours, me: own}
    row = scheme.row(me, adapters, context, allowed)
    heard = {peer: weight for peer, weight in row.weights.items() if weight > 0.0}
    if heard.keys() == {me}:
        return row, own
    return row, rule.merge(TrustRow(heard), {peer: adapters[peer] for peer in heard}, own)
