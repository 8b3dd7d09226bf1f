"""Theoretical weights from declared category shares. Only simulator and demo declare shares; they never travel.

With P the matrix of peers by categories, W = P P^T, each row normalised: the form of the paper's released code after
its refactoring (before, it had tables of its own). It is what a scheme would find that knew of whom each text is; it
knows nothing of how well anybody has learnt, so a scheme that measures may be better than it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle(TrustScheme):
    """Weights by how much the declared text of two peers overlaps: row i of P P^T, normalised, P = category shares.

    The yardstick for schemes that have to find out by measuring. A `threshold` is the logarithm of an overlap,
    which is 0 at most.
    """

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Logarithms of the inner products of shares, so that the softmax gives the products back, normalised."""
        shares = {peer: _declared(peer, context.shares) for peer in adapters}
        return {peer: _logarithm(_overlap(shares[me], theirs)) for peer, theirs in shares.items()}


def _declared(peer: PeerId, shares: Mapping[PeerId, tuple[float, ...]]) -> tuple[float, ...]:
    if peer not in shares:
        hint = "declare them (a share per category, summing to one), or choose a scheme that measures, like validation"
        raise OptionError(f"trust scheme 'oracle' needs the category shares of every peer; {peer} has none", hint)
    declared = shares[peer]
    if not all(share >= 0.0 for share in declared) or abs(math.fsum(declared) - 1.0) > 1e-3:
        hint = "shares are the parts of a peer's text that belong to each category: non-negative, summing to one"
        raise OptionError(f"trust scheme 'oracle': the shares {declared} of {peer} are no distribution", hint)
    return declared


def _overlap(mine: tuple[float, ...], theirs: tuple[float, ...]) -> float:
    if len(mine) != len(theirs):
        raise OptionError(
            f"trust scheme 'oracle': shares over {len(mine)} and over {len(theirs)} categories cannot be compared",
            "declare a share of every category for every peer, zeros included",
        )
    return math.fsum(a * b for a, b in zip(mine, theirs, strict=True))


def _logarithm(overlap: float) -> float:
    return math.log(overlap) if overlap > 0.0 else -math.inf
