"""Who of those that a row trusts is of any use: one more look at the neighbours, after the trust scheme's.

A scheme that asks who resembles me can be gamed: a copy of my last update resembles me best, whether it adds anything
or carries something harmful along. So each neighbour is mixed with me alone, half and half, and the mixture is measured
on my trust split. Who brings next to nothing there is left out, the scheme judges the rest anew, and they weigh by what
they bring. The guard, on text that this has not seen, then chooses between the two rows (docs/adr/0014).

Half and half, since that is the merge in which a neighbour would matter most; alone it may be bad and still bring
something, and beside all others its part cannot be told from theirs. A copy of mine mixed with mine is mine: its gain
is nothing, whatever its likeness. It costs a run for each neighbour that the row weighs at all; over a thousand tokens
of the trust split, since a copy's gain is nothing on any text, and of the others the guard has the last word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.trust import TrustContext, TrustScheme

LEAST_PART = 0.1  # of the largest gain: a copy's is never zero to the last digit
LEAST_WEIGHT = 0.01  # of all that are left out: less is no reason to judge the others anew
ROUNDING = 1e-9


class Glances(TrustContext, Protocol):
    """What a trust scheme is told, and a glance at the trust split."""

    def glances(self, adapters: Sequence[Adapter]) -> Sequence[HasLoss]:
        """Of each on the same few windows, measured together."""
        ...


class HasLoss(Protocol):
    """Of an evaluation, all that counts here."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats a token."""
        ...


class Mix(Protocol):
    """The merge of me and some neighbours by a row: `collaborate.merged_by`, with the rule in it."""

    def __call__(self, row: TrustRow, *, own: Adapter, neighbours: Mapping[PeerId, Adapter]) -> Adapter:
        """One adapter."""
        ...


def useful_row(
    row: TrustRow,
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    scheme: TrustScheme,
    mixed: Mix,
    context: Glances,
) -> TrustRow:
    """A row over those of this one that bring something, by what they bring; the same object if nothing changes."""
    heard = {peer: neighbours[peer] for peer, weight in sorted(row.weights.items()) if weight > 0.0 and peer != me}
    gains = _gains(me, own, heard, mixed, context)
    most = max(gains.values(), default=0.0)
    parts = {peer: gain / most for peer, gain in gains.items() if gain > 0.0 and gain >= LEAST_PART * most}
    found = row
    if math.fsum(row.weights[peer] for peer in heard.keys() - parts.keys()) > LEAST_WEIGHT:
        found = scheme.row(me, {**neighbours, me: own}, context, frozenset(parts))
    useful = found.changed(partial(_by_gain, me=me, parts=parts))
    return useful if _differ(useful, row) else row


def _by_gain(weights: Mapping[PeerId, float], me: PeerId, parts: Mapping[PeerId, float]) -> Mapping[PeerId, float]:
    """What is left of a row; all of it mine, if it had been all of those who bring nothing."""
    left = {peer: weight * parts.get(peer, float(peer == me)) for peer, weight in weights.items()}
    total = math.fsum(left.values())
    return {peer: weight / total if total > 0.0 else float(peer == me) for peer, weight in left.items()}


def _differ(one: TrustRow, other: TrustRow) -> bool:
    """By more than rounding, in any layer."""
    pairs = zip(one.rows, other.rows, strict=True)
    return any(abs(weight - theirs[peer]) > ROUNDING for mine, theirs in pairs for peer, weight in mine.items())


def _gains(
    me: PeerId, own: Adapter, neighbours: Mapping[PeerId, Adapter], mixed: Mix, context: Glances
) -> dict[PeerId, float]:
    """By how much half of me and half of a neighbour measures better than I, in nats a token; if it is a number."""
    halves = {
        peer: mixed(TrustRow({me: 0.5, peer: 0.5}), own=own, neighbours={peer: a}) for peer, a in neighbours.items()
    }
    mine, *losses = (found.loss for found in context.glances([own, *halves.values()]))
    return {peer: mine - loss for peer, loss in zip(halves, losses, strict=True) if math.isfinite(mine - loss)}
