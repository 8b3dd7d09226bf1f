"""Coordinate-wise median: each entry by itself, the value in the middle of the weight.

A weighted median: sort the values of an entry, lay them side by side as wide as their weights, and take what stands at
one half (Yin et al. 2018, arXiv 1803.01498). It is the trimmed mean that trims all but the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._vectors import adapter_of, middle_mean, vectors
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinateMedian(MergeRule):
    """The weighted median of each entry (Yin et al. 2018, arXiv 1803.01498): half of the weight lies on either side.

    No entry leaves the range of the honest peers while these hold more than half of the weight. What all entries
    together say is not looked at: a lie inside that range in every entry passes (arXiv 1902.06156).
    """

    by_layer: ClassVar[bool] = True

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """If the weights divide evenly, the mean of the lower and the upper median."""
        return adapter_of(middle_mean(*vectors(row, adapters), trimmed=0.5), own)
