"""Centred clipping: a mean in which nobody pulls further than a radius.

From where I stand I take a step towards each neighbour, by its weight, and shorten every difference that is longer than
the radius tau: v <- v + sum_j w_j (x_j - v) min(1, tau / |x_j - v|). Karimireddy, He and Jaggi (2021, arXiv 2012.10333)
centre it at the last mean of a server; without a server each peer centres it at itself, as ClippedGossip does (He,
Karimireddy and Jaggi 2022, arXiv 2202.01545). A liar of weight w moves me by w tau at most, wherever it stands, and an
honest neighbour inside the radius counts in full.

The radius is the whole question. A fixed one asks for a number that nobody knows beforehand; the median distance
adapts, and gives the choice away if more than half of the neighbours lie.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CentredClipping(MergeRule):
    """From the own adapter, a step towards each other one, no longer than a radius (arXiv 2012.10333; 2202.01545).

    Nobody moves the own adapter by more than its weight times the radius, whatever it sends.
    radius: in the unit of the adapter's norm; 0: the median distance of the others, which a majority of liars controls.
    steps: how often, each time from where the last one ended.
    """

    radius: float = 0.0
    steps: int = 1

    def __post_init__(self) -> None:
        if not self.radius >= 0.0 or self.steps < 1:
            raise ValueError("radius is zero or positive, and steps one or more")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """The own adapter and the clipped differences by their weights."""
        import torch

        vectors_np, weights_n = vectors(row, adapters)
        centre_p = own.vector().double()
        for _ in range(self.steps):
            away_np = vectors_np - centre_p
            distances_n = torch.linalg.vector_norm(away_np, dim=1)
            others = distances_n[distances_n > 0.0]
            if not len(others):
                break
            radius = self.radius or float(others.quantile(0.5))
            centre_p = centre_p + (weights_n * (radius / distances_n.clamp(min=radius))) @ away_np
        return adapter_of(centre_p, own)
