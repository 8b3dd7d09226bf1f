"""Krum: no mean at all, but the one adapter that has the most others near it.

The output is somebody's honest work and no mixture (Blanchard et al. 2017, arXiv 1703.02757), and for that reason it is
a baseline here: with peers of different text, the most central adapter suits nobody in particular.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._krum import check, ranked
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Krum(MergeRule):
    """The one adapter that is nearest to most others (Blanchard et al. 2017, arXiv 1703.02757).

    The row only says who takes part. If peers hold different text, the most central adapter is nobody's own: a
    baseline, not a recommendation.
    hostile: the part of the peers that may lie, 0 to below 0.5.
    """

    hostile: float = 0.3

    def __post_init__(self) -> None:
        check(self.hostile)

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """That very adapter."""
        return adapters[ranked(row, adapters, own, self.hostile)[0]]
