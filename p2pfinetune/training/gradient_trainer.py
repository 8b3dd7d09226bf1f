"""The trainer of all kinds that are a rule from a gradient to a step: an adapter, its text, and what the rule keeps.

A step takes the next blocks of the text, adds up the gradients of their mean loss, and hands it to the rule, which is
a plug-in of `trainers` and one of torch's optimizers at heart. What the optimizer keeps of each factor is the state;
its names are those of torch, so that a checkpoint can be read by anybody who knows the optimizer. How a step is taken,
alone or with others, is in `steps`; here is what stays between two of them, as plain values.

    blocks of (seed, step) -> loss, summed over parts that fit into memory -> gradient -> + pull -> clipped -> rule ->
    weights

A gradient that is not finite skips the step: the weights and what was gathered stay as they were, the step counts, and
the next one sees other text. The pull is Ditto's (Li et al. 2021, arXiv 2012.04221): strength / 2 times the squared
distance to other weights, added to the loss by its gradient, before the clipping.

The loss of a step is the mean over all targets that count, and of a conversation these are the answers' (`batches`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from p2pfinetune.batched.stack import AdapterStack, Schema
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.options import TrainingOptions
from p2pfinetune.registry import public_name
from p2pfinetune.training.batches import Blocks, TrainingBatch
from p2pfinetune.training.schedule import learning_rate
from p2pfinetune.training.steps import GATHERED, Steps
from p2pfinetune.training.trainer import Pull, StepReport, TrainerState

if TYPE_CHECKING:
    from p2pfinetune.training.trainers import StepRule


class GradientTrainer:
    """Steps of one rule over the adapter's factors and nothing else; a frozen factor has no gradient and no moments."""

    def __init__(
        self,
        adapted: AdaptedModel,
        split: TokenSplit,
        options: TrainingOptions,
        rule: StepRule,
        stack: AdapterStack | None = None,
        trained: Schema | None = None,
    ) -> None:
        """`trained`: of what ever trains, what this one trains; all of it if nothing is said."""
        self.trained: Schema = adapted.trained_schema if trained is None else trained
        """Names and shapes of the factors that it changes."""
        self._adapted, self._options, self._rule = adapted, options, rule
        self._blocks = Blocks(split, options.context, options.seed)
        self._adapter = adapted.initial
        self._pull: Pull | None = None
        self._stack = stack
        self.steps = 0
        self._gathered = 0
        """Steps that the optimizer's tensors are over: those with effect since it was fresh."""
        self._tensors: Mapping[str, Mapping[str, Tensor]] = {}
        """What the optimizer keeps, by its names and then by those of the factors."""

    @property
    def adapter(self) -> Adapter:
        """The weights as they are now."""
        return self._adapter

    @property
    def adapted(self) -> AdaptedModel:
        """The live model."""
        return self._adapted

    @property
    def stack(self) -> AdapterStack:
        """What it runs on; made when it is first needed, if `share` gave none."""
        if self._stack is None:
            self._stack = AdapterStack(self._adapted)
        return self._stack

    def share(self, stack: AdapterStack) -> None:
        """Run on a stack that others use, too; it must be of the same base and kind of adapter."""
        self._stack = stack

    @property
    def options(self) -> TrainingOptions:
        """As given."""
        return self._options

    @property
    def rule(self) -> StepRule:
        """As given."""
        return self._rule

    @property
    def batched(self) -> GradientTrainer:
        """Itself."""
        return self

    @property
    def context(self) -> int:
        """Tokens of a sequence: fewer than asked for if the text is shorter."""
        return self._blocks.context

    @property
    def pull(self) -> Pull | None:
        """See `pull_towards`."""
        return self._pull

    def twin(self, split: TokenSplit) -> GradientTrainer:
        """Another one with the same options, at the seeded start."""
        return GradientTrainer(self._adapted, split, self._options, self._rule, self._stack, self.trained)

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """Add strength x (weights - adapter) to every gradient, as Ditto does; None ends it. Not part of the state."""
        if adapter is not None and adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._pull = Pull(adapter, strength) if adapter is not None and strength else None

    def upcoming(self) -> tuple[TrainingBatch, float]:
        """Blocks and learning rate of the next step."""
        options = self._options
        sequences = options.batch_size * options.accumulation
        blocks = self._blocks.batch(self.steps * sequences, sequences)
        return blocks, learning_rate(self.steps, options.lr * self._rule.times_lr, options.total_steps)

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights; moments and schedule stay, as in the paper."""
        if adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._adapter = adapter

    def forget(self) -> None:
        """A fresh optimizer."""
        self._gathered, self._tensors = 0, {}

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._blocks = Blocks(split, self._options.context, self._options.seed)

    def mark(self) -> None:
        """Nothing: what a step did was of as many numbers as the weights are."""

    def steps_since(self, adapter: Adapter) -> None:
        """Its steps cannot be told by fewer numbers."""
        del adapter

    def step(self) -> StepReport:
        """One optimizer step."""
        return self.run(1)[0]

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some optimizer steps. What was done stays done when `on_step` raises."""
        reports: list[StepReport] = []

        def note(_: int, report: StepReport) -> None:
            reports.append(report)
            if on_step is not None:
                on_step(report)

        Steps([self], self.stack).take(steps, note)
        return reports

    def state(self, *, copy: bool = True) -> TrainerState:
        """Everything that the next step depends on but a pull; without a copy, valid until that step."""
        tensors = {
            kind: {name: tensor.clone() if copy else tensor for name, tensor in held.items()}
            for kind, held in self._tensors.items()
        }
        return TrainerState(self._adapter, self.steps, public_name(self._rule), tensors, {GATHERED: self._gathered})

    def load_state(self, state: TrainerState, *, copy: bool = True) -> None:
        """Go on exactly where `state` was taken. CheckpointError if it is of another model or kind.

        Without a copy the state belongs to the trainer from now on.
        """
        self._must_fit(state)
        self._adapter, self.steps = state.adapter, state.steps
        self._gathered = state.counts.get(GATHERED, 0)
        self._tensors = {
            kind: {
                name: state.tensors[kind][name].clone() if copy else state.tensors[kind][name] for name in self.trained
            }
            for kind in (self._rule.kept if self._gathered else ())
        }

    def _must_fit(self, state: TrainerState) -> None:
        state.must_be_of(public_name(self._rule), self._rule.known, (GATHERED,))
        if state.adapter.schema != self._adapter.schema:
            raise CheckpointError("the saved weights are of another model or rank")
        for kept in self._rule.kept if state.counts.get(GATHERED, 0) else ():
            for name, shape in self.trained.items():
                found = state.tensors.get(kept, {}).get(name)
                if found is None or found.shape != shape:
                    what = "are missing" if found is None else "have another shape"
                    raise CheckpointError(f"the saved moments of {name} {what}: {kept}")
