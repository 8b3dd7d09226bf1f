"""Who of those that a row trusts is of any use: one more look at the neighbours, after the trust scheme's.

A scheme that asks who resembles me can be gamed: a copy of my last update resembles me best, whether it adds anything
or carries something harmful along. So each neighbour that weighs something is mixed with me alone, half and half, and
the mixture is measured on my trust split. Who brings nothing there is left out, the scheme judges the rest anew, and
what is left weighs by what it brings. The guard, on text that this has not seen, then chooses between the two rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from p2pfinetune.adapter import Adapter
from p2pfinetune.merge import MergeRule
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.trust import TrustContext, TrustScheme

LEAST = 0.01  # of a row: who weighs less does no harm, and a hundred neighbours at most are measured
ROUNDING = 1e-9
LOOKS = 3  # how often those are left out who bring nothing; a crowd of copies may hide others like it


def useful_row(
    row: TrustRow,
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    scheme: TrustScheme,
    rule: MergeRule,
    context: TrustContext,
) -> TrustRow:
    """A row over those of this one that bring something, by what they bring; the same object if nothing changes."""
    given = row
    left = frozenset(peer for peer, weight in row.weights.items() if weight > 0.0 and peer != me)
    gains: dict[PeerId, float] = {}
    for _ in range(LOOKS):
        fresh = [peer for peer, weight in row.weights.items() if peer in left - gains.keys() and weight >= LEAST]
        gains |= _gains(me, own, {peer: neighbours[peer] for peer in fresh}, rule, context)
        useless = {peer for peer in fresh if not gains[peer] > 0.0}
        if not useless:
            break
        left -= useless
        row = scheme.row(me, {**neighbours, me: own}, context, left)
    found = _by_gain(row, me, {peer: gain for peer, gain in gains.items() if peer in left})
    is_new = any(abs(weight - given.weights[peer]) > ROUNDING for peer, weight in found.weights.items())
    return found if is_new else given


def _gains(
    me: PeerId, own: Adapter, neighbours: Mapping[PeerId, Adapter], rule: MergeRule, context: TrustContext
) -> dict[PeerId, float]:
    """By how much half of me and half of a neighbour measures better than I, in nats a token."""
    mixed = {
        peer: rule.merge(TrustRow({me: 0.5, peer: 0.5}), {me: own, peer: a}, own) for peer, a in neighbours.items()
    }
    mine, *losses = context.losses([own, *mixed.values()])
    return {peer: mine - loss for peer, loss in zip(mixed, losses, strict=True)}


def _by_gain(row: TrustRow, me: PeerId, gains: Mapping[PeerId, float]) -> TrustRow:
    """Each weight times the part of the largest gain that the peer brings; who was not measured weighs nothing."""
    most = max(gains.values(), default=0.0)
    weights = {
        peer: weight * gains.get(peer, 0.0) / most if most > 0.0 else 0.0 for peer, weight in row.weights.items()
    }
    weights[me] = row.weights[me]
    total = math.fsum(weights.values())
    return TrustRow({peer: weight / total for peer, weight in weights.items()})
