"""What a kind of trainer is: options that make a trainer; and the kinds that only say how a gradient becomes a step.

Two levels, so that neither hides the other. A `TrainerKind` may train as it likes (no gradients at all, as MeZO, arXiv
2305.17333, would). A `StepRule` is a torch optimizer and the names of what it keeps, and gets everything else for
nothing: batches, clipping, pull, checkpoints, and company in a pass, where the same optimizer steps rows of a matrix
instead of tensors of layers. That is right for optimizers whose step is entry by entry; one that looks at a whole
matrix is no rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from p2pfinetune.data.corpus import TokenSplit
    from p2pfinetune.model.adapter import AdaptedModel
    from p2pfinetune.options import TrainingOptions
    from p2pfinetune.training.gradient_trainer import GradientTrainer
    from p2pfinetune.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerKind(ABC):
    """One way to train; its fields are its options."""

    @property
    def has_gradients(self) -> bool:
        """Whether activations have to be kept for a backward pass."""
        return True

    @property
    def moments(self) -> int:
        """Numbers that are gathered of each number of the adapter."""
        return 0

    @abstractmethod
    def trainer(self, adapted: AdaptedModel, split: TokenSplit, options: TrainingOptions) -> Trainer:
        """One at the seeded start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRule(TrainerKind):
    """A kind that is one of torch's optimizers; trainers with equal rules share passes (`training.together`)."""

    @property
    def times_lr(self) -> float:
        """The learning rate of this rule, in units of the common option."""
        return 1.0

    @property
    @abstractmethod
    def known(self) -> tuple[str, ...]:
        """The names of all tensors that torch's optimizer may keep of a parameter and that have to be saved."""

    @property
    def kept(self) -> tuple[str, ...]:
        """Those that it keeps with these options, once it has taken a step."""
        return self.known

    @property
    def moments(self) -> int:
        """Those of the optimizer."""
        return len(self.kept)

    @abstractmethod
    def optimizer(self, groups: Sequence[Mapping[str, Any]], *, is_fused: bool | None = None) -> Optimizer:
        """A fresh one; each group has `params` and `weight_decay`, and gets its `lr` before each step."""

    def begun(self, kept: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        """What torch's optimizer holds of one parameter after so many steps with effect, a scalar of fp32."""
        return dict(kept)

    def trainer(self, adapted: AdaptedModel, split: TokenSplit, options: TrainingOptions) -> GradientTrainer:
        """One at the seeded start."""
        from p2pfinetune.training.gradient_trainer import GradientTrainer

        return GradientTrainer(adapted, split, options, self)
