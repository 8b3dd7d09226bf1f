"""What a merge rule is: adapters and a trust row in, one adapter out.

Averaging the factors A and B is not averaging the products BA: the error is the weighted covariance of the factors
over peers (see docs/adr/). Every peer starts from the same seeded A, which keeps that covariance small.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.names import SHARINGS, PeerId, Sharing, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeRule(ABC):
    """One way to combine adapters."""

    resets_moments: ClassVar[bool] = False
    """Whether the optimizer's moments mean nothing any more after this merge."""

    on_products: ClassVar[bool] = False
    """Whether it works on the products BA; weight similarity then compares products too."""

    sharings: ClassVar[tuple[Sharing, ...]] = SHARINGS
    """With which sharing it has a meaning; what is not shared is the own one's afterwards, whatever it does to it."""

    by_layer: ClassVar[bool] = False
    """Whether every layer is merged by itself, so that each may have a row of its own."""

    @abstractmethod
    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """The adapter that `row` asks for. `adapters` holds every peer of the row, me included; `own` is mine."""
