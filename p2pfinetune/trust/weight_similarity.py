"""Trust by similarity of weights: needs no text and no forward pass, only the adapters themselves.

Compared is how far each has moved from the shared start: the start itself is the same for all, and its cosine with
itself would drown the rest. Adapters that learnt from like text move alike while they are young; two that say the same
by other factors look different, which the products BA see through (`of`). Cheapest of the paper's schemes and its
weakest: it asks about weights, not about what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme
from p2pfinetune.trust._cosines import cosine, excluding, inner_of_factors, inner_of_products

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSimilarity(TrustScheme):
    """Trust adapters that point the same way as mine (strategy 1 of arXiv 2404.09753).

    temperature: of the cosine; between 0 and 1.
    of: compare the factors A and B as moved since the shared start, or the products BA that act on the model.
    faithful: the paper's form, a mean of row-wise cosines of the factors at temperature 1; the others then do nothing.
    A `threshold` is a cosine divided by the temperature.
    """

    faithful: bool = False
    # Measured with the nano base on two kinds of text: after the first round cosines are 0.25 for the own kind and 0.15
    # for the other, after merging 0.9 and 0.5. A sharper softmax would trust only itself before the first merge, a
    # temperature of 1 everybody.
    temperature: float = 0.2
    of: Literal["factors", "products"] = "factors"

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")
        if self.of not in ("factors", "products"):
            raise ValueError("of is 'factors' or 'products'")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Cosine with the own adapter; one that is not finite is excluded."""
        mine = adapters[me]
        if self.faithful:
            shared = context.moved(mine).tensors
            return {peer: excluding(_rowwise_cosine(mine, theirs, shared)) for peer, theirs in adapters.items()}
        if self.of == "products":
            return self._cosines(me, adapters, inner_of_products)
        return self._cosines(me, {peer: context.moved(adapter) for peer, adapter in adapters.items()}, inner_of_factors)

    def _cosines(self, me: PeerId, of: Mapping[PeerId, T], inner: Callable[[T, T], float]) -> dict[PeerId, float]:
        mine = of[me]
        square = inner(mine, mine)
        return {
            peer: excluding(cosine(inner(mine, theirs), square, inner(theirs, theirs)) / self.temperature)
            for peer, theirs in of.items()
        }


def _rowwise_cosine(mine: Adapter, theirs: Adapter, shared: Collection[str]) -> float:
    """Mean cosine over rows in the paper's layout, A (in, r) and B (r, out); ours is transposed, so over columns.

    A has `in` rows of r entries and B only r rows, so nearly all of the mean is cosines of A's short rows. Kept as it
    is in the paper's code: that is what `faithful` means.
    """
    from torch.nn import functional

    total, rows = 0.0, 0
    for name in shared:
        cosines = functional.cosine_similarity(mine.tensors[name].double(), theirs.tensors[name].double(), dim=0)
        total, rows = total + float(cosines.sum()), rows + cosines.numel()
    return total / rows
