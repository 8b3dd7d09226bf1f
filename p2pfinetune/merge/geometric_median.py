"""Geometric median: the point with the least weighted sum of distances to all adapters.

Distances and not their squares: a peer far away pulls no harder than one near by, so that a minority cannot drag the
point off, however far it stands (RFA, Pillutla, Kakade and Harchaoui 2022, arXiv 1912.13445). Unlike the
coordinate-wise median it looks at whole adapters, and turns with them.

Weiszfeld's iteration finds it: the mean with weights w_j / |x_j - v|, taken again and again. Each step is a weighted
mean of the adapters, so the point stays in their hull. At an adapter the weight would be infinite; distances are
therefore no smaller than a tiny part of the largest, which is RFA's smoothed version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._vectors import adapter_of, vectors
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter

SMOOTHING = 1e-9  # of the largest distance: a step from a point that is a peer's would divide by zero
SETTLED = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometricMedian(MergeRule):
    """The adapter with the least weighted sum of distances to all (RFA, Pillutla et al. 2022, arXiv 1912.13445).

    It stays within bounds while honest peers hold more than half of the weight, wherever the others are.
    steps: at most so many of Weiszfeld's; it ends before if a step is a tiny part of the largest distance.
    """

    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps is one or more")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """By reweighted means, from the weighted mean, which is where most of the way is done already."""
        import torch

        vectors_np, weights_n = vectors(row, adapters)
        found_p = weights_n @ vectors_np
        for _ in range(self.steps):
            distances_n = torch.linalg.vector_norm(vectors_np - found_p, dim=1)
            furthest = float(distances_n.max())
            if furthest == 0.0:
                break
            pulls_n = weights_n / distances_n.clamp(min=SMOOTHING * furthest)
            next_p = (pulls_n / pulls_n.sum()) @ vectors_np
            moved = float(torch.linalg.vector_norm(next_p - found_p))
            found_p = next_p
            if moved <= SETTLED * furthest:
                break
        return adapter_of(found_p, own)
