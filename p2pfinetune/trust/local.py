"""Trust nobody: what training alone would give.

The baseline that every scheme has to beat, since it needs no network. In the simulator its peers share everything else
with those of the other schemes: text, batches and seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Local(TrustScheme):
    """All weight on the own adapter: the baseline of training alone."""

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Zero for me, minus infinity for everybody else."""
        return {peer: 0.0 if peer == me else -math.inf for peer in adapters}
