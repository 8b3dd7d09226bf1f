"""Trust by performance: how well a peer's adapter predicts my own trust split.

The question that matters, asked directly, one forward pass over the split for each neighbour. The scale is its weak
point: a softmax of losses needs a temperature, and how far the losses of peers lie apart depends on base and text. The
paper's form is a softmax of minus the perplexity, e^loss, so that its temperature moves with the base as well: on a
weak base with perplexities of some dozens it is an arg-max, on a strong one uniform.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.scoring.perplexity import has_diverged, perplexity
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation(TrustScheme):
    """Trust adapters that have a low loss on the own trust split (strategy 2 of arXiv 2404.09753).

    temperature: nats a token; a peer whose loss is one temperature above another's weighs e times less.
    faithful: the paper's form, minus the perplexity at temperature 1; `temperature` then does nothing.
    The score is relative to the own loss, so a `threshold` of -2 drops peers more than two temperatures worse than me.
    """

    faithful: bool = False
    # Measured with the nano base: losses of adapters for one kind of text differ by 0.01 to 0.2 nats, for another by
    # 0.1 to 0.5. At half this temperature peers listen to themselves alone (docs/LOG.md). The paper's perplexity at
    # temperature 1 is an arg-max there, and almost uniform on a strong base.
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """-(loss - own loss) / temperature, or -perplexity; an adapter without a finite loss is excluded."""
        losses = dict(zip(adapters, context.losses(list(adapters.values())), strict=True))
        if self.faithful:
            return {peer: -math.inf if has_diverged(loss) else -perplexity(loss) for peer, loss in losses.items()}
        reference = losses[me] if math.isfinite(losses[me]) else 0.0
        return {peer: _finite((reference - loss) / self.temperature) for peer, loss in losses.items()}


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
