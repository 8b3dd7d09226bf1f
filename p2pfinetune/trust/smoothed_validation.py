"""Trust by performance, averaged over rounds: what a small trust split says of one round is half noise.

The first scheme with a memory (`Judgement.kept`): a table of numbers by peer, which the learner saves with its training
and hands back in the next round. Smoothed is the distance to my own loss and not the loss, which falls for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import Judgement, SchemeState, TrustContext, TrustScheme, carried

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter

BEHIND = "behind"
"""The table of what is kept: by how many nats a token a peer's adapter was worse than mine, smoothed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedValidation(TrustScheme):
    """Trust adapters that have had a low loss on the own trust split, in this round and those before.

    As `validation`, of an exponential moving average of a peer's loss less my own. A peer that is heard for the first
    time counts as it is; one that was away goes on where it was. It is slower to trust and to give up trust, so who
    turns hostile is believed for a few rounds more.
    keep: the part of the average that stays with each round; 0 is `validation`.
    temperature: nats a token; a peer whose average is one temperature above another's weighs e times less.
    """

    keep: float = 0.5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.keep < 1.0:
            raise ValueError("keep is at least 0 and below 1")
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> Judgement:
        """Minus the average over the temperature; an adapter without a finite loss is excluded, its average kept."""
        losses = dict(zip(adapters, context.losses(list(adapters.values())), strict=True))
        reference = losses[me] if math.isfinite(losses[me]) else 0.0
        before = context.kept.tables.get(BEHIND, {})
        now = {
            peer: self.keep * before.get(peer, loss - reference) + (1.0 - self.keep) * (loss - reference)
            for peer, loss in sorted(losses.items())
            if peer != me and math.isfinite(loss)
        }
        scores = {peer: -now[peer] / self.temperature if peer in now else -math.inf for peer in adapters}
        return Judgement(scores={**scores, me: 0.0}, kept=SchemeState({BEHIND: carried(before, now)}))
