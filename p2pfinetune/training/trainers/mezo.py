"""MeZO: training by forward passes alone, for devices that can run a model and have no room to train it.

Memory-efficient zeroth-order optimisation (Malladi et al. 2023, arXiv 2305.17333), over the adapter's factors; see
`training.mezo_trainer`. Peers that train so and peers that train by gradients share a network, since what is shared is
a place and not how one came there (docs/adr/0027).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.mezo.steps import MOST_SAMPLES
from p2pfinetune.training.trainers._base import TrainerKind

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import TokenSplit
    from p2pfinetune.model.adapter import AdaptedModel
    from p2pfinetune.options import TrainingOptions
    from p2pfinetune.training.mezo_trainer import MezoTrainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Mezo(TrainerKind):
    """Two forward passes a step instead of a backward pass: the memory of running the model, and many more steps.

    scale: the learning rate in units of --lr, which is AdamW's: there it is the length of a step in each entry, here it
    multiplies a slope.
    eps: how far to either side the loss is looked at, in each entry; 1e-2 for LoRA in the paper.
    samples: directions of a step, whose mean is taken; each costs two forward passes.
    Weight decay is towards the seeded start, at the highest learning rate.
    """

    scale: float = 1.0
    eps: float = 1e-2
    samples: int = 1

    def __post_init__(self) -> None:
        if not (self.scale > 0.0 and self.eps > 0.0):
            raise ValueError("scale and eps are positive")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise ValueError(f"samples are 1 to {MOST_SAMPLES}")

    @property
    def has_gradients(self) -> bool:
        """None."""
        return False

    def trainer(self, adapted: AdaptedModel, split: TokenSplit, options: TrainingOptions) -> MezoTrainer:
        """One at the seeded start."""
        from p2pfinetune.training.mezo_trainer import MezoTrainer

        return MezoTrainer(adapted, split, options, self)
