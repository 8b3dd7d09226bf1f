"""A portion of an adapter: what of it is in work on a device for one round, and what others are then told.

Two networks work by turns (`AdapterSpec.sharing`):

    alternate   one factor of every target, B and then A: RoLoRA (Chen et al. 2025, arXiv 2502.01755)
    sketch      some components of every target, drawn anew each turn: FSLoRA (Fang et al. 2025, arXiv 2501.19389)

A component of a target is a row of A with the column of B that it meets; the product BA is the sum of all components.
So a portion of them, I, is a LoRA adapter of its own, of rank k = |I|, with the sketch S = (r / k) diag(1 if in I, else
0) between its factors:

    B S A = (r / k) B[:, I] A[I, :]          and over all I of k out of r, equally likely,  E[S] = identity

so that what a device of k components trains on is right in expectation. There is one set for each target, for A and B
alike: with two sets the factors would not meet, and S would be no sketch of anything (the paper's released code draws
two).

Nothing here draws or trains: `training.portion_trainer` does.

Shapes: A is (rank, in), B is (out, rank); of a portion, (k, in) and (out, k).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Factor = Literal["a", "b"]
SUFFIX: Mapping[Factor, str] = {"a": ".lora_A", "b": ".lora_B"}


@dataclass(frozen=True, slots=True)
class Portion:
    """One factor of each target, or some components of each."""

    factor: Factor | None = None
    components: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """By module path: which, ascending and equally many in each; empty if the portion is a factor."""

    def taken(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the portion is of the factors of an adapter, or of numbers of their shape; copies."""
        if self.factor is not None:
            return {name: tensor for name, tensor in tensors.items() if name.endswith(SUFFIX[self.factor])}
        return {name: _taken(name, tensor, self._of(name)) for name, tensor in tensors.items()}

    def put(self, whole: Mapping[str, Tensor], portion: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`whole` with `portion` in the place of what `taken` takes of it; neither is changed."""
        if self.factor is not None:
            return {name: portion.get(name, tensor) for name, tensor in whole.items()}
        return {name: _put(name, tensor, portion[name], self._of(name)) for name, tensor in whole.items()}

    def schema(self, whole: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what `taken` takes of an adapter of this schema."""
        if self.factor is not None:
            return {name: shape for name, shape in whole.items() if name.endswith(SUFFIX[self.factor])}
        counts = {name: len(self._of(name)) for name in whole}
        return {n: (counts[n], s[1]) if n.endswith(".lora_A") else (s[0], counts[n]) for n, s in whole.items()}

    def _of(self, name: str) -> tuple[int, ...]:
        return self.components[name.rpartition(".")[0]]


def _taken(name: str, tensor: Tensor, components: tuple[int, ...]) -> Tensor:
    chosen = [*components]
    return tensor[chosen] if name.endswith(".lora_A") else tensor[:, chosen].contiguous()


def _put(name: str, tensor: Tensor, portion: Tensor, components: tuple[int, ...]) -> Tensor:
    found, chosen = tensor.clone(), [*components]
    if name.endswith(".lora_A"):
        found[chosen] = portion
    else:
        found[:, chosen] = portion
    return found
