"""Coordinate-wise trimmed mean: of each entry, the mean without the largest and the smallest part of the weight.

Between the mean (nothing trimmed) and the coordinate-wise median (all but the middle): Yin et al. 2018, arXiv
1803.01498, shows it order-optimal for data of one distribution. With data of several, the ends that it cuts off are
honest peers as well.
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
class TrimmedMean(MergeRule):
    """The weighted mean of what lies in the middle of each entry (Yin et al. 2018, arXiv 1803.01498).

    trimmed: the part of the weight that is cut off at either end, 0 to below 0.5; liars have to hold more than that to
    move an entry at will.
    """

    by_layer: ClassVar[bool] = True

    trimmed: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.trimmed < 0.5:
            raise ValueError("trimmed is the part of the weight at either end: at least 0 and below 0.5")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """A peer at the edge counts with the part of its weight that is inside."""
        return adapter_of(middle_mean(*vectors(row, adapters), trimmed=self.trimmed), own)
