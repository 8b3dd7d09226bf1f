"""Factor mean, the default merge rule: the weighted mean of all A, and of all B.

The paper's rule (Wagner, Fan and Jaggi 2024, arXiv 2404.09753), FedIT's and Dec-LoRA's (arXiv 2501.15361). It averages
weights and not gradients, since personalised peers do not start a round from the same point. What it misses of the mean
product, and why that is little here, stands at the head of `_base`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorMean(MergeRule):
    """The weighted mean of all A and of all B (Wagner, Fan and Jaggi 2024; FedIT).

    Not the mean of the products BA: it misses the weighted covariance of the factors, which a shared start of A keeps
    small. Cheap, keeps every factor near the own one, and leaves the optimizer's moments meaningful.
    """

    by_layer: ClassVar[bool] = True

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """Accumulated in fp64, peers in sorted order, so that neither order nor naming of peers changes the result."""
        import torch

        weighed = {peer: weight for peer, weight in row.weights.items() if weight > 0.0}
        if len(weighed) == 1:  # its weight is one up to rounding
            return adapters[next(iter(weighed))]
        tensors = {}
        for name, mine in own.tensors.items():
            total = torch.zeros(mine.shape, dtype=torch.float64)
            for peer, weight in sorted(weighed.items()):
                total.add_(adapters[peer].tensors[name].double(), alpha=weight)
            tensors[name] = total.float()
        return type(own)(tensors)
