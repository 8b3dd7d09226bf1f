"""Coordinate-wise trimmed mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._vectors import adapter_of, vectors
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.adapter import Adapter

ROUNDING = 1e-9  # of a weight


@dataclass(frozen=True, slots=True, kw_only=True)
class TrimmedMean(MergeRule):
    """The weighted mean of what lies in the middle of each entry (Yin et al. 2018, arXiv 1803.01498).

    trimmed: the part of the weight that is cut off at either end; liars have to hold more to move an entry at will.
    """

    trimmed: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.trimmed < 0.5:
            raise ValueError("trimmed is the part of the weight at either end: at least 0 and below 0.5")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """A peer at the edge counts with the part of its weight that is inside."""
        return adapter_of(middle_mean(*vectors(row, adapters), trimmed=self.trimmed), own)


def middle_mean(vectors_np: Tensor, weights_n: Tensor, *, trimmed: float) -> Tensor:
    """(p,) of each entry, the mean over the middle of the sorted values; for 0.5 the median.

    Sorted values lie side by side on [0, 1], each as wide as its weight; what is inside [trimmed, 1 - trimmed] counts.
    """
    values_np, order_np = vectors_np.sort(dim=0)
    ends_np = weights_n[order_np].cumsum(dim=0)
    begins_np = ends_np - weights_n[order_np]
    low, high = trimmed, 1.0 - trimmed
    if high - low < ROUNDING:  # so narrow that it would fall between two values
        low, high = 0.5 - ROUNDING, 0.5 + ROUNDING
    inside_np = (ends_np.clamp(max=high) - begins_np.clamp(min=low)).clamp(min=0.0)
    return (values_np * inside_np).sum(dim=0) / inside_np.sum(dim=0)
