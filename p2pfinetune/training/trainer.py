"""What a trainer is: one adapter and one text, some steps, a report of each, and a state to go on from to the bit.

Which trainer trains is a choice of one peer alone (docs/adr/0027): what peers share is how far each has come from the
seeded start, however it got there. So a learner knows this protocol and never how a step is made; batches, rates,
whatever is gathered on the way, and what of it has to be saved are the trainer's own affair. `trainers` holds one file
for each kind; those that are nothing but a rule from a gradient to a step share `gradient_trainer`.

Several trainers may share a live model: each keeps its own weights and copies them in when it runs. A trainer knows
nothing of peers, scores or merges, and never looks at a clock. Every random choice follows from the seed and the number
of the step, so that none of it has to be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.options import DEFAULT_TRAINER

if TYPE_CHECKING:
    from p2pfinetune.batched.stack import AdapterStack
    from p2pfinetune.mezo.steps import StepList
    from p2pfinetune.training.gradient_trainer import GradientTrainer


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimizer step."""

    step: int
    """Counted from 1 since training began."""
    loss: float
    """Mean cross-entropy over the step's tokens before the step, dropout on, in nats."""
    tokens: int
    lr: float
    """As the step took it: of a kind with longer steps a multiple of the option."""
    gradient_norm: float
    """Before clipping."""
    skipped: bool
    """The gradient was not finite, so the weights stayed."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainerState:
    """All that a trainer is beside its options and its text."""

    adapter: Adapter
    steps: int
    """Taken since training began, those without effect included; the next step's batch, dropout and rate follow."""
    kind: str = DEFAULT_TRAINER
    """The public name of the trainer whose state this is; no other goes on from it."""
    tensors: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """What the trainer gathered on the way, by its own names and then by those of the adapter's factors."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Whole numbers of the trainer's own, such as over how many steps `tensors` are."""

    def must_be_of(self, kind: str, tensors: tuple[str, ...], counts: tuple[str, ...]) -> None:
        """Raises CheckpointError, by name, for the state of another kind and for what this kind does not know."""
        if self.kind != kind:
            raise CheckpointError(
                f"what was saved is of the trainer {self.kind!r}, and this one is {kind!r}",
                f"start with --trainer {self.kind}, or begin anew in a new --home",
            )
        if unknown := sorted({*self.tensors} - {*tensors} | {*self.counts} - {*counts}):
            raise CheckpointError(f"what was saved holds {unknown[0]!r}, which the trainer {kind!r} does not know")


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """A spring to other weights: the gradient of strength / 2 x their squared distance.

    Ditto's regulariser (Li et al. 2021, arXiv 2012.04221, with lambda for the strength). Zero pulls not at all.
    """

    adapter: Adapter
    strength: float


class Trainer(Protocol):
    """Trains one adapter on one split."""

    @property
    def steps(self) -> int:
        """Taken since training began, those without effect included."""
        ...

    @property
    def adapter(self) -> Adapter:
        """The weights as they are now."""
        ...

    @property
    def adapted(self) -> AdaptedModel:
        """The live model."""
        ...

    @property
    def batched(self) -> GradientTrainer | None:
        """Itself, if several of its kind can share their passes (`training.together`); None: it runs by itself."""
        ...

    def share(self, stack: AdapterStack) -> None:
        """Run on a stack that others use, too; it must be of the same base and kind of adapter."""
        ...

    def twin(self, split: TokenSplit) -> Trainer:
        """Another one with the same options, at the seeded start."""
        ...

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """Draw the weights to others from now on, as Ditto does; None ends it. Not part of the state."""
        ...

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights; all else stays, as in the paper. ValueError if they do not fit."""
        ...

    def forget(self) -> None:
        """After a jump to weights that what was gathered says nothing about. Steps and schedule stay."""
        ...

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        ...

    def mark(self) -> None:
        """Note the steps from here on, if this kind can tell them as numbers."""
        ...

    def steps_since(self, adapter: Adapter) -> StepList | None:
        """What led from the mark to here, if it was set at this very adapter; None if it cannot be told as steps."""
        ...

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some steps. What was done stays done when `on_step` raises."""
        ...

    def state(self) -> TrainerState:
        """A copy of everything that the next step depends on but text, options and a pull."""
        ...

    def load_state(self, state: TrainerState) -> None:
        """Go on exactly where `state` was taken. CheckpointError if it is of another model or kind."""
        ...
