"""In which numbers a model is run follows from what was asked for, and never from the processor."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model import processor
from p2pfinetune.model.adapter import AdaptedModel, attach
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.precision import Precision
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.scoring.evaluate import measure_of
from p2pfinetune.training.together import groups_of, train_together
from p2pfinetune.training.trainers.adamw import AdamW

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(batch_size=2, context=12, lr=3e-3)


def split(seed: int = 0) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, 320, 60).astype(np.uint16) for _ in range(4)])


def adapted_in(base: Base, precision: Precision) -> AdaptedModel:
    return attach(replace(base, precision=precision), AdapterSpec(rank=2, alpha=4))


@contextmanager
def products(model: Any) -> Iterator[set[torch.dtype]]:
    """In which numbers the layers that hold matrices give their outputs."""
    found: set[torch.dtype] = set()
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: found.add(output.dtype))
        for name, module in model.named_modules()
        if name.endswith(("_proj", "base_layer"))
    ]
    yield found
    for hook in hooks:
        hook.remove()


def test_a_base_that_was_asked_for_nothing_is_trained_in_fp32_whatever_the_processor_offers(tiny_base: Base) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    stack, trainer = AdapterStack(adapted), AdamW().trainer(adapted, split(), OPTIONS)

    with products(trainer.stack.model) as alone, products(stack.model) as together:
        trainer.run(1)
        train_together([AdamW().trainer(adapted, split(seed), OPTIONS) for seed in range(2)], 1, stack=stack)

    assert alone == together == {torch.float32}


def test_in_bf16_products_of_matrices_are_and_weights_moments_and_losses_are_not(tiny_base: Base) -> None:
    adapted = adapted_in(tiny_base, "bf16")
    stack, trainer = AdapterStack(adapted), AdamW().trainer(adapted, split(), OPTIONS)

    with products(trainer.stack.model) as alone, products(stack.model) as together:
        trainer.run(1)
        train_together([AdamW().trainer(adapted, split(seed), OPTIONS) for seed in range(2)], 1, stack=stack)

    assert alone == together == {torch.bfloat16}
    state = trainer.state()
    kept = [*state.adapter.tensors.values(), *(t for moments in state.tensors.values() for t in moments.values())]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_on_the_cpu_adapters_are_measured_in_fp32_however_they_were_trained(tiny_base: Base) -> None:
    measure = measure_of(split(), context=12, vocabulary=320)
    plain, half = attach(tiny_base, AdapterSpec(rank=2, alpha=4)), adapted_in(tiny_base, "bf16")

    left, right = (evaluate_together(adapted, [adapted.initial], measure, CPU)[0] for adapted in (plain, half))

    assert np.array_equal(left.per_window, right.per_window)


def test_peers_that_are_run_in_other_numbers_never_share_a_pass(tiny_base: Base) -> None:
    adapted = [attach(tiny_base, AdapterSpec(rank=2, alpha=4)), adapted_in(tiny_base, "bf16")]

    groups = groups_of([AdamW().trainer(each, split(), OPTIONS) for each in adapted])

    assert groups == [[0], [1]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_in_either_precision_can_be_repeated_to_the_bit(tiny_base: Base, precision: Precision) -> None:
    runs = [AdamW().trainer(adapted_in(tiny_base, precision), split(), OPTIONS) for _ in range(2)]

    first, second = (trainer.run(3) for trainer in runs)

    assert first == second
    assert runs[0].adapter.equals(runs[1].adapter)


LOSSES = [12.107139, 12.049497, 11.891613, 12.074594, 11.687619, 12.040691]
"""Of six steps in fp32. AVX-512, AVX2 and SSE gave them within 1e-6; bf16 lies up to 2e-2 away."""


def test_in_fp32_a_training_has_the_same_losses_on_every_processor() -> None:
    adapted = attach(load_base("nano", device="cpu"), AdapterSpec())
    dice = np.random.default_rng(0)
    text = TokenSplit.of([dice.integers(1, 4096, 60).astype(np.uint16) for _ in range(4)])
    trainer = AdamW().trainer(adapted, text, structs.replace(OPTIONS, context=48))

    found = [report.loss for report in trainer.run(6)]
    measured = evaluate_together(adapted, [trainer.adapter], measure_of(text, context=48, vocabulary=4096), CPU)[0]

    assert found == pytest.approx(LOSSES, abs=1e-4)  # nats: of merges, a thousandth counts
    assert measured.loss == pytest.approx(11.851299, abs=1e-4)
    assert trainer.adapter.minus(adapted.initial).norm() == pytest.approx(0.270256, rel=1e-4)


def test_where_the_suite_runs_with_units_masked_nobody_takes_them_for_usable() -> None:
    is_masked = {"ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"} <= os.environ.keys()

    assert processor.missing(CPU) or not is_masked
