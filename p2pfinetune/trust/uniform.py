"""Trust everybody alike: federated averaging, without the server.

FedAvg (McMahan et al. 2017, arXiv 1602.05629) over all that are heard. What personalisation has to beat among peers of
like text, and what hurts most among peers of different text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform(TrustScheme):
    """The same weight for every peer, me included: the baseline of FedAvg."""

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Zero for everybody."""
        return dict.fromkeys(adapters, 0.0)
