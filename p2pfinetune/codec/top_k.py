"""top-k: of how an adapter has changed since its key frame, the largest entries in a few bits, and nothing of the rest.

As SparseLoCo (arXiv 2508.15706) and EcoLoRA (arXiv 2506.02001) do it, with the one change that key frames allow. Their
receivers add up what they are sent, so that a sender keeps what it has not told and adds it to the next (error
feedback). Here each difference is to a key frame *as receivers have it*; so what was left out, or rounded, of the last
update is in the next difference by itself, it waits for its turn there, and no residual is kept, lost or leaked.

Of the whole adapter nothing may be left out: a key frame is one of `levels`, of finer steps. Which entries were chosen
is not listed: an entry that was not is a zero, and an entropy coder writes a zero among many in a fraction of a bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from p2pfinetune.codec import _coded as container
from p2pfinetune.codec._levelled import LevelledCodec

if TYPE_CHECKING:
    from torch import Tensor

KEY_STEP = 0.5  # root mean squares: a key frame lasts for some rounds
STEPS = 1.5  # of the root mean square of what was chosen: about two bits a value, as in SparseLoCo

LEFT_OUT = 0.3  # root mean squares of the update, at most: what is left out pulls an adapter back to its key frame


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK(LevelledCodec):
    """The tenth of the entries that has changed most since the key frame, in some bits each; or a key frame.

    Error: of a key frame, half a step, a quarter of the root mean square of the update. Of a difference: an entry that
    was not chosen stays as it was in the key frame, and the root mean square of all that is left out is at most 0.3 of
    that of the update, or a key frame comes.
    """

    KEY: ClassVar = "top-k 1"
    DIFFERENCE: ClassVar = "top-k 1, difference"

    share: float = 0.1
    """Of the entries."""

    def __post_init__(self) -> None:
        """ValueError for what is no share."""
        if not 0.0 < self.share <= 1.0:
            raise ValueError("a share is more than 0 and at most 1")

    def encode_difference(
        self, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], turn: int = 1
    ) -> bytes | None:
        """None: a key frame is shorter, or too much would be left out."""
        del turn
        values = container.vector(tensors)
        change = values - container.vector(base)
        chosen = largest(change, self.share)
        left_out = container.root_mean_square(np.where(chosen == 0.0, change, 0.0))
        if left_out > LEFT_OUT * container.root_mean_square(values):
            return None
        mean = container.root_mean_square(chosen[chosen != 0.0])
        blob = self._write(self.DIFFERENCE, tensors, chosen, container.as_step(mean / STEPS))
        return blob if blob is not None and len(blob) < len(self.encode(tensors)) else None

    def _step(self, values: container.Values) -> float:
        return container.as_step(KEY_STEP * container.root_mean_square(values))


def largest(values: container.Values, share: float) -> container.Values:
    """The same, but zero where it is not among this share of the largest magnitudes; of equal ones, the first."""
    kept = np.zeros_like(values)
    order = np.argsort(-np.abs(values), kind="stable")[: max(1, round(share * len(values)))]
    kept[order] = values[order]
    return kept
