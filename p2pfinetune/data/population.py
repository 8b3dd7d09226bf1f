"""Who takes part in a simulation and what text each holds. A plain value: it neither reads files nor trains.

The seam between where text comes from (the paper's settings, folders of a user's, hostile variants of either) and what
is simulated with it. Declared shares are for the theoretical weights and for plots; no other scheme sees them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from p2pfinetune.data.corpus import Corpus
from p2pfinetune.data.splits import SPLITS, Split
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.data.tokens import TokenArray
from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId


@dataclass(frozen=True, slots=True, eq=False)
class Backdoor:
    """A phrase that attackers plant: where the trigger stands, the target shall follow."""

    trigger: TokenArray
    target: TokenArray

    @property
    def phrase(self) -> TokenArray:
        """Both, one behind the other."""
        return np.concatenate([self.trigger, self.target])


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """The peers, in the order that matrices and plots show them."""

    texts: Mapping[PeerId, Corpus]
    categories: tuple[str, ...]
    shares: Mapping[PeerId, tuple[float, ...]]
    """The declared part of each category in a peer's text; every tuple sums to one.

    Only the theoretical weights see it."""
    reference: TokenSplit | None = None
    """Public text for prediction similarity; none: each peer's trust split."""
    backdoor: Backdoor | None = None
    """What attackers plant, and what models are probed for at the end."""

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """Their names."""
        return tuple(self.texts)

    def of(self, peers: Sequence[PeerId]) -> Population:
        """Only these, in this order. OptionError for one that is not there."""
        if unknown := [peer for peer in peers if peer not in self.texts]:
            raise OptionError(f"there is no peer {unknown[0]!r}", f"the peers are {', '.join(self.texts)}")
        shares = {peer: self.shares[peer] for peer in peers if peer in self.shares}
        return replace(self, texts={peer: self.texts[peer] for peer in peers}, shares=shares)

    def tokens(self, peer: PeerId) -> dict[Split, int]:
        """How many tokens of each split a peer holds."""
        return {split: self.texts[peer].split(split).counted_tokens for split in SPLITS}
