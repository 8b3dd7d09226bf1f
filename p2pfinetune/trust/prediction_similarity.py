"""Trust by similarity of predictions. Peers' adapters are run here, on contexts of ours: no prediction ever travels.

In the paper every peer predicts on a shared public set and sends its logits; here the adapters are at hand anyway, so
they are run on the own trust split (docs/adr/0007), or on a public text with `--reference`. It is the default
(docs/adr/0010): distances are measured in units of their own mean, so that its sharpness needs no tuning to a text or a
base, as the temperature of a loss does.

A prediction is a distribution over the vocabulary, of which the `top` likeliest entries are kept, as renormalised
probabilities; two are compared by the L1 distance, 0 to 2 a position. It asks for likeness and not for merit: a copy of
my own adapter is the likest of all, which the second look (`round.second_look`) is there to see through.

Shapes: p positions, v entries of the vocabulary, k kept entries of a position.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter

ROUNDING = 1e-6  # of the sum compared; fp32 logits are not better than that
PAPER_SHARPNESS = 10.0  # arXiv 2404.09753, authors' code: softmax(-10 d)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionSimilarity(TrustScheme):
    """Trust adapters that predict the same next tokens as mine on the same contexts (strategy 3 of arXiv 2404.09753).

    My own adapter counts as no nearer than my nearest neighbour's, so that this one weighs as much as mine.
    sharpness: a peer at the mean distance weighs e^(sharpness/2) times less than one at half of it.
    top: how many of the likeliest tokens of a position are compared.
    faithful: the paper's form: raw logits of last positions, rest zero, distances divided by their sum, sharpness 10.
    Peers that predict exactly alike, or a single one alone, get a uniform row. A `threshold` is in units of the score.
    """

    faithful: bool = False
    # Adapters of one kind of text measure 0.6 to 0.9 of the mean distance, others 1 to 1.4. While the own distance
    # counted as zero, no sharpness worked: at 3 strangers weighed a third, at 10 nobody but me (docs/LOG.md).
    sharpness: float = 10.0
    top: int = 100  # of the paper

    def __post_init__(self) -> None:
        if not self.sharpness > 0.0:
            raise ValueError("sharpness is positive")
        if self.top < 1:
            raise ValueError("top is one or more")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """-sharpness times the distance over the mean one (paper: over the sum); -inf if it is not finite."""
        distances = self._distances(me, adapters, context)
        others = [d for peer, d in distances.items() if peer != me and math.isfinite(d)]
        total = math.fsum(others)
        if total == 0.0:
            return {peer: 0.0 if math.isfinite(d) else -math.inf for peer, d in distances.items()}
        scale = total if self.faithful else total / len(others)
        sharpness = PAPER_SHARPNESS if self.faithful else self.sharpness
        if not self.faithful:
            distances[me] = min(others)  # my distance to myself is zero whatever I am like: it says nothing
        return {peer: -sharpness * d / scale for peer, d in distances.items()}

    def _distances(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        mine = cache(lambda: self._dense(context.logits(adapters[me], last_only=self.faithful)))

        def distance(theirs: Adapter) -> float:
            return context.once(
                theirs, f"{me} {self.faithful} {self.top}", lambda: self._distance(mine(), theirs, context)
            )

        return {peer: 0.0 if peer == me else distance(theirs) for peer, theirs in adapters.items()}

    def _distance(self, mine: tuple[Tensor, float], theirs: Adapter, context: TrustContext) -> float:
        import torch

        mine_pv, mine_sum = mine
        values_pk, tokens_pk = self._sparse(context.logits(theirs, last_only=self.faithful))
        mine_pk = mine_pv.gather(1, tokens_pk)
        # sum |mine - theirs| over the vocabulary, visiting only the entries where theirs are not zero
        excess = torch.abs(mine_pk - values_pk).double() - mine_pk.abs().double()
        distance = mine_sum + float(excess.sum())
        return _settled(distance, mine_sum) / len(mine_pv)

    def _sparse(self, logits_pv: Tensor) -> tuple[Tensor, Tensor]:
        """Values and token ids of the `top` largest entries: raw logits (paper), or renormalised probabilities."""
        values_pk, tokens_pk = logits_pv.float().topk(min(self.top, logits_pv.shape[1]), dim=1)
        return (values_pk if self.faithful else values_pk.softmax(dim=1)), tokens_pk

    def _dense(self, logits_pv: Tensor) -> tuple[Tensor, float]:
        values_pk, tokens_pk = self._sparse(logits_pv)
        dense_pv = logits_pv.new_zeros(logits_pv.shape, dtype=values_pk.dtype).scatter_(1, tokens_pk, values_pk)
        return dense_pv, float(values_pk.abs().double().sum())


def _settled(distance: float, size: float) -> float:
    """Infinite if it is not finite; zero if it is only rounding, which division by the mean would blow up."""
    if not math.isfinite(distance):
        return math.inf
    return distance if distance > ROUNDING * size else 0.0
