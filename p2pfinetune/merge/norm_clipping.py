"""Norms clipped to the median: nobody counts for more by being long.

An update ten times as long outweighs ten honest ones in a mean, whatever its weight is meant to be. Cutting norms
bounds that alone (Sun et al. 2019, "Can you really backdoor federated learning?", arXiv 1911.07963, clips to a fixed
bound; the median adapts to how far peers of this network have come). It is cheap and takes nothing from honest peers of
usual length; what points the wrong way still does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._vectors import adapter_of, vectors
from p2pfinetune.names import PeerId, Sharing, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class NormClipping(MergeRule):
    """The weighted mean of adapters none of which counts as longer than the median one.

    An adapter's length is the Frobenius norm of all its products BA, which is what it does to the model; factors can be
    scaled against each other at will. A longer one has its B shortened, and A left as it is: A starts at the seed and
    not at zero, so shortening it would move it away from everybody's.
    """

    sharings: ClassVar[tuple[Sharing, ...]] = ("both", "b", "alternate", "sketch")  # it shortens B

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """Lengths are found from the factors; no product is formed."""
        import torch

        lengths = {peer: length(adapters[peer]) for peer, weight in row.weights.items() if weight > 0.0}
        median = float(torch.tensor(sorted(lengths.values()), dtype=torch.float64).quantile(0.5))
        clipped = {
            peer: _shortened(adapters[peer], median / found) if found > median else adapters[peer]
            for peer, found in lengths.items()
        }
        if len(clipped) == 1:
            return next(iter(clipped.values()))
        vectors_np, weights_n = vectors(row, clipped)
        return adapter_of(weights_n @ vectors_np, own)


def length(adapter: Adapter) -> float:
    """Frobenius norm of all products: ||BA||^2 is the inner product of B^T B and A A^T."""
    total = 0.0
    for _, a, b in adapter.pairs():
        wide_a, wide_b = a.double(), b.double()
        total += float(((wide_b.T @ wide_b) * (wide_a @ wide_a.T)).sum())
    return math.sqrt(max(total, 0.0))


def _shortened(adapter: Adapter, factor: float) -> Adapter:
    tensors = adapter.tensors.items()
    return type(adapter)({n: (t.double() * factor).float() if n.endswith(".lora_B") else t for n, t in tensors})
