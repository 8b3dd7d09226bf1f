"""What training alone would come to, beside a training that hears others: the same seed, batches and steps, no merge.

Until the first merge is kept the two are one: the twin is the own training, and costs nothing. Then it parts from it
with its weights, moments and place in the text, and from there on trains in the same passes (`training.together`).
Before they part nothing is lost by having no twin, so one can begin until then; afterwards nobody can know what
training alone would have come to.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import ServedAdapter
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.training.trainer import Trainer, TrainerState


class Twin:
    """Of one learner; `is_wanted` says whether it trains on once the two have parted."""

    def __init__(self, own: Trainer, *, is_wanted: bool) -> None:
        self.is_wanted = is_wanted
        self.is_alone = True
        """Whether the own training is still what training alone would be."""
        self._own = own
        self.trainer: Trainer | None = None
        """Once they have parted."""
        self.best, self.best_loss = own.adapter, math.inf
        """By guard loss, nats a token; of no meaning before they part."""

    @property
    def adapter(self) -> Adapter:
        """After the last training."""
        return (self.trainer or self._own).adapter

    def part(self, split: TokenSplit, best: Adapter, best_loss: float) -> None:
        """The own training goes elsewhere from here; `best` is the best that it reached alone."""
        if self.is_alone and self.is_wanted:
            self.resume(split, self._own.state())
            self.best, self.best_loss = best, best_loss
        self.is_alone = False

    def resume(self, split: TokenSplit, state: TrainerState) -> None:
        """Go on apart, where `state` was taken."""
        self.trainer = self._own.twin(split)
        self.trainer.load_state(state)

    def pull(self, adapter: Adapter, strength: float) -> None:
        """Draw it to others' weights from now on, as Ditto does; of strength 0, not at all."""
        if self.trainer is not None and strength:
            self.trainer.pull_towards(adapter, strength)

    def note(self, loss: float) -> None:
        """Its guard loss now."""
        if self.trainer is not None and loss < self.best_loss:
            self.best, self.best_loss = self.trainer.adapter, loss

    def remeasure(self, measure: Callable[[Adapter], Evaluation]) -> None:
        """Its best, on other text than before."""
        if self.trainer is not None:
            self.best_loss = measure(self.best).loss


def chosen(personal: float, best: float, twin_best: float) -> ServedAdapter:
    """By losses on the guard split. What is chosen is never behind the twin, neither as it is nor as it was at best."""
    if personal <= twin_best:
        return "personal"
    return "best" if best <= twin_best else "local"
