"""What a person is given of one learner: one of its adapters, or a mixture of predictions.

The adapter is the personal one, unless training alone has done better on the guard split (`twin.chosen`). If mixtures
are wanted (`serve = "mixture"`), each round learns one anew (`blend`). It is served if it is no worse than the personal
adapter over trust and guard split, each measured by what was learnt on the other; where a twin trains, no worse on the
guard split than what would be served without it, too. So what is served is never behind the twin there.

A mixture is no adapter: what wants one (an export) gets the adapter that would be served without it. The neighbours'
adapters in it are those of the last round that heard anybody, so that a daemon at rest keeps what it serves. With other
text it is forgotten until the next round, for its weights were learnt on the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from p2pfinetune.batched.by_token import losses_by_token
from p2pfinetune.batched.measuring import evaluate_distinct
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.splits import Split
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, Served, ServedAdapter, TrustRow, Which
from p2pfinetune.options import LearnerOptions
from p2pfinetune.round.blend import OWN, PERSONAL, Blend, Losses, blend_of, most_trusted
from p2pfinetune.round.twin import Twin, chosen
from p2pfinetune.scoring.evaluate import Evaluation, Measure, evaluation_of


class Serving:
    """Of one learner."""

    def __init__(self, stack: AdapterStack, options: LearnerOptions) -> None:
        self._stack, self._options = stack, options
        self.adapter: ServedAdapter | None = "personal"
        """Which one it would be without a mixture; None: not measured since other text was read."""
        self.blend: Blend | None = None
        self.is_mixed = False
        """Whether the mixture is what is served."""

    @property
    def which(self) -> Served | None:
        """What is served; None: not measured since other text was read."""
        return "mixture" if self.is_mixed else self.adapter

    @property
    def mixture(self) -> Blend | None:
        """If that is what is served."""
        return self.blend if self.is_mixed else None

    @property
    def guard_mixture(self) -> float | None:
        """Guard loss of the mixture by weights of the trust split alone, if there is one."""
        return self.blend.loss if self.blend is not None else None

    def learn(
        self,
        me: PeerId,
        personal: Adapter,
        own: Adapter,
        neighbours: Mapping[PeerId, Adapter],
        row: TrustRow,
        measure: Callable[[Split], Measure],
    ) -> None:
        """The mixture of this round, if one is wanted; its guard loss is measured, and `choose` decides."""
        if self._options.serve != "mixture":
            return
        friends = most_trusted(row, me, {p: a for p, a in neighbours.items() if a.schema == personal.schema})
        if not neighbours and self.blend is not None:
            friends = {name: a for name, a in self.blend.members.items() if name not in {PERSONAL, OWN}}
        bound = self._options.max_share if self._options.guarded else 1.0
        splits = measure("trust"), measure("guard")

        def by_token(members: Sequence[Adapter]) -> tuple[Losses, Losses]:
            on_trust, on_guard = (losses_by_token(self._stack, members, split)[0] for split in splits)
            return on_trust, on_guard

        self.blend = blend_of(personal, own, friends, by_token, bound)

    def choose(self, personal: float, best: float, twin: Twin) -> Served:
        """By guard losses of the personal and the best adapter; the twin knows its own."""
        self.adapter = "personal" if twin.trainer is None else chosen(personal, best, twin.best_loss)
        loss = {"best": best, "local": twin.best_loss}.get(self.adapter, personal)
        blend = self.blend
        self.is_mixed = blend is not None and blend.gain >= 0.0 and (twin.trainer is None or blend.loss <= loss)
        return "mixture" if self.is_mixed else self.adapter

    def forget(self, twin: Twin) -> None:
        """Other text is read."""
        self.restore(twin, None)

    def restore(
        self, twin: Twin, adapter: ServedAdapter | None, blend: Blend | None = None, *, is_mixed: bool = False
    ) -> None:
        """As it was; but without a twin there is nothing to choose from, and no mixture if none is wanted any more."""
        is_wanted = self._options.serve == "mixture"
        self.adapter = "personal" if twin.trainer is None else adapter
        self.blend = blend if is_wanted else None
        self.is_mixed = is_mixed and self.blend is not None

    def evaluations(self, models: Mapping[Which, Adapter | Blend], measure: Measure) -> dict[Which, Evaluation]:
        """Of each. Equal ones are measured once, adapters together."""
        adapters = {which: model for which, model in models.items() if isinstance(model, Adapter)}
        stack = self._stack
        found = evaluate_distinct(stack.adapted, [*adapters.values()], measure, stack.device, stack)
        mixtures = {w: self.evaluation(model, measure) for w, model in models.items() if isinstance(model, Blend)}
        return {**dict(zip(adapters, found, strict=True)), **mixtures}

    def evaluation(self, blend: Blend, measure: Measure) -> Evaluation:
        """Of a mixture, as of any adapter."""
        losses_kn, window_n = losses_by_token(self._stack, blend.adapters, measure)
        sums_w = np.zeros(len(measure.per_window_tokens), np.float64)
        np.add.at(sums_w, window_n, blend.losses(losses_kn))
        return evaluation_of(measure, sums_w)
