"""One round's mathematics: my adapter and my neighbours' to a trust row and a merged adapter. Pure composition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pfinetune.adapter import Adapter
from p2pfinetune.merge import MergeRule
from p2pfinetune.names import PeerId, Refusal, TrustRow
from p2pfinetune.neighbourhood import copies, norm_outliers
from p2pfinetune.trust import TrustContext, TrustScheme


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of hearing the neighbours."""

    row: TrustRow
    merged: Adapter
    refused: Mapping[PeerId, Refusal]
    """Whose updates stand out from all others; they weigh nothing."""
    copies: tuple[tuple[PeerId, PeerId], ...]
    """Pairs of which one copied the other, me included."""


def collaborate(
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    scheme: TrustScheme,
    rule: MergeRule,
    context: TrustContext,
    allowed: frozenset[PeerId] | None = None,
) -> Heard:
    """The row over me and all neighbours, and the merge by it; the very object `own` where nobody else weighs anything.

    Outliers are neither scored nor merged. The rule sees only peers that weigh something, so that one who is not
    listened to cannot disturb the arithmetic.
    """
    adapters = {**neighbours, me: own}
    deltas = {peer: adapter.minus(context.initial) for peer, adapter in adapters.items()}
    refused = norm_outliers(deltas[me], {peer: delta for peer, delta in deltas.items() if peer != me})
    permitted = (adapters.keys() if allowed is None else allowed) - refused.keys()
    row = scheme.row(me, adapters, context, frozenset(permitted))
    return Heard(row, merged_by(row, me, own, neighbours, rule), refused, copies(deltas))


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
