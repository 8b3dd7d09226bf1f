"""Being drawn to neighbours instead of merging with them: what a trust scheme with a `spring` makes of a row.

The merge by the row is judged as any other, since what it leads to is where the spring will draw. If it is taken, the
peer stays where it is, and every gradient of its next training gets strength x (weights - target) on top (the trainer's
`Pull`), where the target is the merge of the neighbours alone. With weights w_k of the neighbours and a strength rho,

    rho sum_k w_k (x - x_k) = rho (sum_k w_k) (x - target)        target = sum_k w_k x_k / sum_k w_k

so for a mean of factors it is the sum over neighbours, word for word. A merge that is refused ends the spring.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round.collaborate import Outcome
from p2pfinetune.round.judging import Judge
from p2pfinetune.training.trainer import Pull, Trainer


class Spring:
    """Of one learner's own training."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.pull: Pull | None = None
        """What draws it; a part of what is saved, since the trainer's state is without it."""

    def set(self, pull: Pull | None) -> None:
        """Draw to there from now on; None: to nowhere."""
        self.pull = pull
        self._trainer.pull_towards(*((pull.adapter, pull.strength) if pull is not None else (None, 0.0)))

    def drawn(self, row: TrustRow, outcome: Outcome, judge: Judge, strength: float) -> Outcome:
        """What the round ends with instead; `strength` 0: the outcome itself. `row` is that of the judged merge."""
        if not strength:
            return outcome
        left = 1.0 - row.weights[judge.me]
        if outcome.reason or left <= 0.0:
            self.set(None)
            return outcome
        others = row.changed(partial(_without, me=judge.me))
        self.set(Pull(judge.mixed(others, own=judge.own, neighbours=judge.neighbours), strength * left))
        on_guard = judge.guard.whole(judge.own)
        return Outcome(judge.own, on_guard, on_guard.loss, "", moments_fit=True)


def _without(weights: Mapping[PeerId, float], me: PeerId) -> dict[PeerId, float]:
    """The same proportions among the others alone; all mine, where nobody else weighs anything."""
    left = math.fsum(weight for peer, weight in weights.items() if peer != me)
    if left <= 0.0:
        return dict(weights)
    return {peer: 0.0 if peer == me else weight / left for peer, weight in weights.items()}
