"""AdamW, the default: the paper's optimizer, with its moments kept through every merge.

Adam (Kingma and Ba 2015, arXiv 1412.6980) with the decay beside the gradient and not in it (Loshchilov and Hutter 2019,
arXiv 1711.05101). Moments are a peer's own and never travel. After a factor mean they go on: the merged adapter lies
near the own one, and so do its gradients. After a rule that rewrites the factors they are dropped
(`MergeRule.resets_moments`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2pfinetune.training.trainers._base import StepRule

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

FIRST, SECOND = "exp_avg", "exp_avg_sq"  # what torch calls the moments


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW(StepRule):
    """Steps of about the learning rate an entry, whatever the gradient's length (Loshchilov and Hutter 2019).

    beta1: how much of the mean gradient stays with each step.
    beta2: the same of the mean squared gradient; both after arXiv 2404.09753, authors' code.
    """

    beta1: float = 0.9
    beta2: float = 0.95

    def __post_init__(self) -> None:
        if not (0.0 <= self.beta1 < 1.0 and 0.0 <= self.beta2 < 1.0):
            raise ValueError("beta1 and beta2 are at least 0 and below 1")

    @property
    def known(self) -> tuple[str, ...]:
        """Both moments."""
        return FIRST, SECOND

    def optimizer(self, groups: Sequence[Mapping[str, Any]], *, is_fused: bool | None = None) -> Optimizer:
        """Torch's."""
        import torch

        return torch.optim.AdamW([*map(dict, groups)], betas=(self.beta1, self.beta2), fused=is_fused)

    def begun(self, kept: Mapping[str, Tensor], steps: Tensor) -> dict[str, Any]:
        """The moments, and how many steps they are over, which is what corrects their start at zero."""
        return {"step": steps, **kept}
