"""Training on two levels: most steps of one trainer, and now and then some of another, on the same adapter.

Some methods train parts of an adapter against each other, as the two levels of one problem: CoMiGS its routers on text
that its experts do not train on, so that a router learns which of them generalises (Fan et al. 2025, arXiv 2409.13931,
equation of the bilevel problem), PF2LoRA the personal adapter for the shared one as it is now (arXiv 2503.03920). Both
are solved by alternating, and that is all there is here: which names belong to which level is the spec's to say.

    sharing      first level             second level      turn of the second
    generalist   experts, train split    routers, trust    `router_steps` after every `router_every`, at a constant rate
    two-level    the shared, train       the personal      one step after each, on blocks in another order

Of an adapter without a second level there is one trainer, and it is the plain one. Turns follow from the number of
steps, so nothing but both trainers' states has to be saved. Such trainers share no passes with others.

PF2LoRA's inner problem is the personal adapter and its outer one the shared adapter; which is counted as the first
here makes no difference, since they take turns. Both learn from the train split: the trust split chooses neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.options import TrainingOptions
from p2pfinetune.training.batches import derived_seed
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.trainer import StepReport, Trainer, TrainerState
from p2pfinetune.training.trainers import StepRule, TrainerKind, must_train_levels

SECOND = "second."
"""Before the names of what the second level gathered, in a state."""
STEPS = f"{SECOND}steps"

Value = TypeVar("Value")
Reader = Callable[[], Corpus]
"""The text as it was read last."""


def trainer_for(
    kind: TrainerKind, adapted: AdaptedModel, reader: Reader, options: TrainingOptions, stack: AdapterStack | None
) -> Trainer:
    """Of one level or two, as the adapter asks. OptionError if it asks for two and this kind makes no gradients."""
    text, spec = reader(), adapted.spec
    second = {name: shape for name, shape in adapted.trained_schema.items() if spec.is_second(name)}
    if not second:
        found = kind.trainer(adapted, text.train, options)
        if stack is not None:
            found.share(stack)
        return found
    must_train_levels(kind, spec)
    assert isinstance(kind, StepRule)
    first = {name: shape for name, shape in adapted.trained_schema.items() if name not in second}
    upper = GradientTrainer(adapted, text.train, options, kind, stack, first)
    routes = spec.sharing == "generalist"
    every, count = (options.router_every, options.router_steps) if routes else (1, 1)
    rest = msgspec.structs.replace(
        options,
        router_balance=0.0,
        total_steps=0 if routes else options.total_steps,
        seed=derived_seed("second level", options.seed),
    )
    lower = GradientTrainer(adapted, text.trust if routes else text.train, rest, kind, stack, second)
    return TwoLevels(upper, lower, every, count, reader if routes else None)


class TwoLevels:
    """A `Trainer` made of two, which hold the same adapter between two turns."""

    batched = None

    def __init__(
        self, first: GradientTrainer, second: GradientTrainer, every: int, count: int, other: Reader | None
    ) -> None:
        """`count` steps of the second after `every` steps of the first; `other`: whose trust split it trains on."""
        self._first, self._second = first, second
        self._every, self._count, self._other = every, count, other

    @property
    def steps(self) -> int:
        """Of the first level."""
        return self._first.steps

    @property
    def adapter(self) -> Adapter:
        """The weights as they are now."""
        return self._first.adapter

    @property
    def adapted(self) -> AdaptedModel:
        """The live model."""
        return self._first.adapted

    def share(self, stack: AdapterStack) -> None:
        """Both run on it."""
        self._first.share(stack)
        self._second.share(stack)

    def twin(self, split: TokenSplit) -> TwoLevels:
        """Another one with the same options, at the seeded start."""
        other = self._other().trust if self._other is not None else split
        return TwoLevels(self._first.twin(split), self._second.twin(other), self._every, self._count, self._other)

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """The first level's factors alone are drawn."""
        self._first.pull_towards(adapter, strength)

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights."""
        self._first.set_adapter(adapter)

    def forget(self) -> None:
        """Fresh optimizers."""
        self._first.forget()
        self._second.forget()

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._first.reread(split)
        self._second.reread(self._other().trust if self._other is not None else split)

    def mark(self) -> None:
        """Nothing: its steps are of gradients."""

    def steps_since(self, adapter: Adapter) -> None:
        """Its steps cannot be told by fewer numbers."""
        del adapter

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some steps of the first level, with the turns of the second that fall between and behind them."""
        reports: list[StepReport] = []
        while len(reports) < steps:
            until_turn = self._every - self._first.steps % self._every
            reports += self._first.run(min(until_turn, steps - len(reports)), on_step)
            if self._first.steps % self._every == 0 and self._count:
                self._second.set_adapter(self._first.adapter)
                self._second.run(self._count)
                self._first.set_adapter(self._second.adapter)
        return reports

    def state(self) -> TrainerState:
        """That of the first level, with what the second gathered under names of its own."""
        found, lower = self._first.state(), self._second.state()
        tensors = {**found.tensors, **_renamed(lower.tensors)}
        counts = {**found.counts, **_renamed(lower.counts), STEPS: lower.steps}
        return replace(found, tensors=tensors, counts=counts)

    def load_state(self, state: TrainerState) -> None:
        """Go on exactly where `state` was taken."""
        upper, upper_counts = _without(state.tensors), _without(state.counts)
        counts = _of_second(state.counts)
        lower_steps = counts.pop("steps", 0)
        self._first.load_state(replace(state, tensors=upper, counts=upper_counts))
        self._second.load_state(replace(state, steps=lower_steps, tensors=_of_second(state.tensors), counts=counts))


def _renamed(found: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{SECOND}{name}": value for name, value in found.items()}


def _of_second(found: Mapping[str, Value]) -> dict[str, Value]:
    return {name.removeprefix(SECOND): value for name, value in found.items() if name.startswith(SECOND)}


def _without(found: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in found.items() if not name.startswith(SECOND)}
