"""Coordinate-wise trimmed mean."""

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

    trimmed: the part of the weight that is cut off at either end; liars have to hold more to move an entry at will.
    """

    by_layer: ClassVar[bool] = True

    trimmed: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.trimmed < 0.5:
            raise ValueError("trimmed is the part of the weight at either end: at least 0 and below 0.5")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """A peer at the edge counts with the part of its weight that is inside."""
        return adapter_of(middle_mean(*vectors(row, adapters), trimmed=self.trimmed), own)
