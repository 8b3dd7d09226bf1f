"""Trust by similarity of weights, layer by layer: a neighbour may be near in some layers and far in others.

The first scheme that answers by layer (`Judgement.layers`), so the merge rule has to take each layer by itself: one
that looks at whole adapters has no one row to look at, and a pair that does not fit is refused when it is typed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import Judgement, TrustContext, TrustScheme
from p2pfinetune.trust._cosines import cosine, excluding, inner_of_factors, inner_of_products

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSimilarity(TrustScheme):
    """In each layer, trust adapters that point the same way as mine there (strategy 1 of arXiv 2404.09753, by layer).

    Shallow layers tend to hold what all text has in common and deep ones what is special (FedTreeLoRA, arXiv
    2603.13282, shares the former widely and the latter in small groups). Every layer gets a row of its own and is
    merged by it; the row that is shown is their mean.
    temperature: of the cosine; between 0 and 1.
    of: compare the factors A and B as moved since the shared start, or the products BA that act on the model.
    `top_k` and a `threshold`, which is a cosine divided by the temperature, act in each layer. An adapter that is not
    finite in one layer is excluded in all.
    """

    by_layer: ClassVar[bool] = True

    temperature: float = (
        0.2  # as in `weight-similarity`: a layer's cosine has more noise than that of all, and no scale
    )
    of: Literal["factors", "products"] = "factors"

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")
        if self.of not in ("factors", "products"):
            raise ValueError("of is 'factors' or 'products'")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> Judgement:
        """Cosine with the own adapter in each layer."""
        moved = {peer: context.moved(adapter) for peer, adapter in adapters.items()}

        def inner(layer: str, one: PeerId, other: PeerId) -> float:
            if self.of == "products":
                return inner_of_products(adapters[one], adapters[other], layer)
            return inner_of_factors(moved[one], moved[other], layer)

        def score(layer: str, own_square: float, peer: PeerId) -> float:
            found = cosine(inner(layer, me, peer), own_square, inner(layer, peer, peer))
            return excluding(found / self.temperature)

        shared = {name.rpartition(".")[0] for name in moved[me].tensors}
        squares = {layer: inner(layer, me, me) for layer, _, _ in adapters[me].pairs() if layer in shared}
        layers = {layer: {peer: score(layer, square, peer) for peer in adapters} for layer, square in squares.items()}
        odd = {peer for scores in layers.values() for peer in scores if scores[peer] == -math.inf and peer != me}
        return Judgement(layers={layer: scores | dict.fromkeys(odd, -math.inf) for layer, scores in layers.items()})
