"""Layers that are computed again instead of kept give the same numbers, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from p2pfinetune.batched.recompute import layers_of
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import AdamW

OPTIONS = TrainingOptions(batch_size=4, context=24, lr=1e-2)


def trainer(base: Base, *, on: bool, dropout: float = 0.0, seed: int = 0) -> GradientTrainer:
    dice = np.random.default_rng(seed)
    split = TokenSplit.of([dice.integers(1, 320, 60).astype(np.uint16) for _ in range(4)])
    adapted = attach(replace(base, checkpointing=on), AdapterSpec(rank=2, dropout=dropout))
    return AdamW().trainer(adapted, split, OPTIONS)


def kept_bytes(one: GradientTrainer) -> int:
    """What a step keeps from its forward for its backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    frozen = {p.untyped_storage().data_ptr() for p in one.adapted.model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        one.step()
    return sum(size for place, size in kept.items() if place not in frozen)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_with_the_noise_of_dropout_in_model_and_adapter_too_every_bit_is_the_same(
    base_of: Callable[[str], Base], family: str
) -> None:
    kept, again = (trainer(base_of(family), on=on, dropout=0.2) for on in (False, True))

    assert again.run(3) == kept.run(3)
    assert again.adapter.equals(kept.adapter)


def test_peers_that_share_passes_do_so_too(tiny_base: Base) -> None:
    kept, again = ([trainer(tiny_base, on=on, seed=seed) for seed in range(2)] for on in (False, True))

    assert train_together(again, 2) == train_together(kept, 2)
    assert all(left.adapter.equals(right.adapter) for left, right in zip(again, kept, strict=True))


def test_between_layers_little_is_kept(tiny_base: Base) -> None:
    kept, again = (kept_bytes(trainer(tiny_base, on=on)) for on in (False, True))

    assert again < kept / 4


def test_what_is_computed_again_are_the_layers(base_of: Callable[[str], Base], families: tuple[str, ...]) -> None:
    assert {family: len(layers_of(base_of(family).model)) for family in families} == dict.fromkeys(families, 2)
