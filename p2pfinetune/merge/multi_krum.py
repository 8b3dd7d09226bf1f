"""Multi-Krum: Krum's score to leave out the hostile part, and the weighted mean of the rest.

Between Krum, which wastes all adapters but one, and the mean, which believes all (Blanchard et al. 2017, arXiv
1703.02757). The score sees no weights; they come back among those that stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._krum import check, ranked
from p2pfinetune.merge._vectors import adapter_of, vectors
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiKrum(MergeRule):
    """The weighted mean of the adapters that lie in the thick of the others (Blanchard et al. 2017, arXiv 1703.02757).

    hostile: the part of the peers that may lie, 0 to below 0.5; so many of the least central are left out.
    """

    hostile: float = 0.3

    def __post_init__(self) -> None:
        check(self.hostile)

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """By the row, among those that stay."""
        central = ranked(row, adapters, own, self.hostile)
        kept = central[: max(1, len(central) - math.floor(self.hostile * len(central)))]
        total = math.fsum(row.weights[peer] for peer in kept)
        if len(kept) == 1:
            return adapters[kept[0]]
        vectors_np, weights_n = vectors(TrustRow({peer: row.weights[peer] / total for peer in kept}), adapters)
        return adapter_of(weights_n @ vectors_np, own)
