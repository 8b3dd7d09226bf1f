"""What a merge rule is: adapters and a trust row in, one adapter out.

Averaging the factors A and B is not averaging the products BA, which are what acts on the model. With weights that sum
to one,

    sum w BA - (sum w B)(sum w A) = sum w (B - mean B)(A - mean A),

the weighted covariance of the factors over peers. It is zero if all share one factor (FFA-LoRA, arXiv 2403.12313,
freezes A for this reason), and small if A has moved little from a start that all share: here every peer begins with the
same seeded A, in the paper's released code with one of its own. docs/adr/0004 has what was measured; `product_error`
measures it anew after any merge.
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
    """Whether the optimizer's moments mean nothing any more after this merge: its coordinates are then others."""

    on_products: ClassVar[bool] = False
    """Whether it works on the products BA; weight similarity then compares products too."""

    sharings: ClassVar[tuple[Sharing, ...]] = SHARINGS
    """With which sharing it has a meaning. What is not shared is put back afterwards, whatever the rule does to it."""

    by_layer: ClassVar[bool] = False
    """Whether every layer is merged by itself, so that each may have a row of its own."""

    any_rank: ClassVar[bool] = False
    """Whether it takes neighbours of more components than the own adapter has, and chooses among all of them itself."""

    @abstractmethod
    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """The adapter that `row` asks for. `adapters` holds every peer of the row, me included; `own` is mine.

        All have the schema of `own`, or, for a rule of `any_rank`, the network's rank; all weights are positive
        (`round.collaborate.merged_by` sees to it). Pure: no adapter is changed, and the same arguments give the same
        bits.
        """
