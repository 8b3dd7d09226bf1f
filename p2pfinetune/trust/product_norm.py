"""Trust by how much an adapter does: weights in proportion to the length of its products BA.

HetLoRA (Cho et al. 2024, arXiv 2401.06432) weighs devices of different rank so: who holds more components, or has
learnt more, has said more. The length is the Frobenius norm of all products together, found from the factors; no
product is formed.

It asks nobody's text, and so nothing about whether what was learnt is of any use here: whoever is long is heard.
Absurd lengths never get so far (`round.comparison`), and up to that bound a liar is heard most. Without the guard it is
for comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme
from p2pfinetune.trust._cosines import inner_of_products

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductNorm(TrustScheme):
    """Weights in proportion to the Frobenius norm of BA, as HetLoRA has them (Cho et al. 2024, arXiv 2401.06432).

    A `threshold` is the logarithm of that norm.
    """

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Its logarithm; who does nothing is excluded, unless nobody does anything."""
        squares = {peer: inner_of_products(adapter, adapter) for peer, adapter in adapters.items()}
        found = {peer: 0.5 * math.log(square) for peer, square in squares.items() if 0.0 < square < math.inf}
        return {peer: found.get(peer, -math.inf) for peer in adapters} if found else dict.fromkeys(adapters, 0.0)
