"""MeZO against a slow reader of its rule; and that its steps, told as numbers, lead anybody to the same weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import OptionError
from p2pfinetune.mezo.signs import Signs
from p2pfinetune.mezo.steps import DECAY_BITS, UNIT, replayed
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, read, write
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.round.update import moved
from p2pfinetune.training.batches import Blocks
from p2pfinetune.training.mezo_trainer import MezoTrainer
from p2pfinetune.training.trainers.mezo import Mezo

OPTIONS = TrainingOptions(
    batch_size=2, accumulation=2, context=12, lr=1e-2, seed=3, total_steps=40, clip=0.0, weight_decay=0.5
)
KIND = Mezo(scale=0.5, eps=1e-3, samples=2)


@pytest.fixture(scope="module")
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2, dropout=0.2))


def split(seed: int = 0) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in (40, 30, 50, 33)])


def made(adapted: AdaptedModel, kind: Mezo = KIND, **options: Any) -> MezoTrainer:
    return kind.trainer(adapted, split(), msgspec.structs.replace(OPTIONS, **options))


def told(trainer: MezoTrainer) -> dict[str, np.ndarray]:
    """How far it is from the start, as it is published."""
    return {name: t.numpy() for name, t in moved(trainer.adapter, trainer.adapted.initial).tensors.items()}


def sign_tensors(trainer: MezoTrainer, step: int, sample: int) -> dict[str, Tensor]:
    schema = {name: tuple(p.shape) for name, p in trainer.adapted.trained.items()}
    bits = Signs(schema).bits(trainer._seed, step, sample)
    found = {}
    for (name, (rows, columns)), part in zip(
        schema.items(), np.split(bits, np.cumsum([math.prod(shape) for shape in schema.values()])[:-1]), strict=True
    ):
        signs = torch.from_numpy(part.astype(np.float32) * 2 - 1)
        found[name] = signs.view(rows, columns) if name.endswith("A") else signs.view(columns, rows).T
    return found


def slow_loss(trainer: MezoTrainer, tensors: dict[str, Tensor]) -> float:
    """Of the next step's batch, by peft's layers and torch's loss."""
    adapted, options = trainer.adapted, OPTIONS
    before = read(adapted)
    write(adapted, Adapter({**before.tensors, **tensors}))
    sequences = options.batch_size * options.accumulation
    batch = Blocks(split(), options.context, options.seed).batch(trainer.steps * sequences, sequences)
    with torch.no_grad():
        logits = adapted.model(input_ids=batch.inputs_bt).logits.double()
    write(adapted, before)
    return float(cross_entropy(logits.flatten(0, 1), batch.targets_bt.flatten()))


@pytest.mark.parametrize("sharing", ["both", "b"])
def test_a_step_is_that_of_the_paper(tiny_base: Base, sharing: Any) -> None:
    trainer = made(attach(tiny_base, AdapterSpec(rank=2, dropout=0.2, sharing=sharing)))
    trainer.run(3)
    before, start = trainer.adapter.tensors, trainer.adapted.initial.tensors

    kept = 1 - 0.5 * OPTIONS.lr * KIND.scale  # decay first, at the highest rate
    slopes, expected = [], {n: start[n] + (before[n] - start[n]).double() * kept for n in trainer.adapted.trained}
    (signs, others) = (sign_tensors(trainer, 3, sample) for sample in (0, 1))
    for along in (signs, others):
        up, down = (
            slow_loss(trainer, {n: before[n] + side * KIND.eps * z for n, z in along.items()}) for side in (1, -1)
        )
        slopes.append((up - down) / (2 * KIND.eps))
    (report,) = trainer.run(1)
    for slope, along in zip(slopes, (signs, others), strict=True):
        for name, z in along.items():
            expected[name] -= report.lr * slope / 2 * z.double()

    assert report.gradient_norm == pytest.approx(math.sqrt((slopes[0] ** 2 + slopes[1] ** 2) / 2), rel=2e-3)
    for name, tensor in trainer.adapter.tensors.items():
        if name in expected:
            torch.testing.assert_close(tensor.double(), expected[name], atol=3 * UNIT, rtol=0)
        else:
            assert torch.equal(tensor, start[name])


def test_two_looks_in_one_pass_and_in_many_are_one_step(tiny_base: Base, adapted: AdaptedModel) -> None:
    together = made(adapted)
    apart = made(attach(replace(tiny_base, positions=12), AdapterSpec(rank=2, dropout=0.2)))

    for one, other in zip(together.run(3), apart.run(3), strict=True):
        assert one.loss == pytest.approx(other.loss, abs=1e-5)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, abs=1e-2)


def test_its_steps_told_as_numbers_lead_to_its_weights_to_the_bit(adapted: AdaptedModel) -> None:
    trainer = made(adapted)
    trainer.set_adapter(Adapter({n: t + torch.full_like(t, 0.0123456789) for n, t in adapted.initial.tensors.items()}))
    trainer.run(2)
    trainer.mark()
    began, marked = told(trainer), trainer.adapter
    trainer.run(5)

    steps = trainer.steps_since(marked)
    assert steps is not None
    found = replayed(began, steps)

    assert (steps.first, steps.count, len(steps.amounts)) == (2, 5, 10)
    for name, tensor in trainer.adapter.tensors.items():
        assert torch.equal(adapted.initial.tensors[name] + torch.from_numpy(found[name]), tensor)


def test_what_jumped_or_came_back_is_not_told_as_steps(adapted: AdaptedModel) -> None:
    trainer = made(adapted)
    assert trainer.steps_since(trainer.adapter) is None
    trainer.mark()
    marked = trainer.adapter
    assert trainer.steps_since(marked) is None  # nothing to tell
    trainer.run(1)
    assert trainer.steps_since(trainer.adapter) is None  # not from there
    trainer.set_adapter(trainer.adapter)
    trainer.reread(split(1))
    assert trainer.steps_since(marked) is not None

    jumps = {
        "merge": lambda one: one.set_adapter(Adapter({n: t.clone() for n, t in one.adapter.tensors.items()})),
        "restart": lambda one: one.load_state(one.state()),
    }
    for jump in jumps.values():
        trainer.mark()
        marked = trainer.adapter
        trainer.run(1)
        jump(trainer)
        assert trainer.steps_since(marked) is None


def test_another_peer_looks_in_other_directions_by_the_same_seed_and_tells_nothing_of_its_text_by_them(
    adapted: AdaptedModel,
) -> None:
    one, other = made(adapted, who="one"), made(adapted, who="another")
    before = one._seed
    one.reread(split(1))

    assert before == one._seed == made(adapted, who="one")._seed != other._seed


def test_a_loss_that_is_no_number_skips_the_step_and_the_next_one_sees_other_text(
    adapted: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(adapted)
    trainer.mark()
    marked = trainer.adapter
    with monkeypatch.context() as patched:
        patched.setattr(trainer, "_losses", lambda *_: [math.nan, 1.0])
        (report,) = trainer.run(1)

    assert report.skipped
    assert trainer.adapter is marked
    assert trainer.steps == 1
    assert not trainer.run(1)[0].skipped
    steps = trainer.steps_since(marked)
    assert steps is not None
    assert steps.amounts[:2] == (0, 0)


def test_a_slope_is_clipped_and_a_pull_adds_its_own_exactly(
    adapted: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat, steep = made(adapted, Mezo(scale=1.0), weight_decay=0.0), made(adapted, Mezo(scale=1.0), clip=1.0)
    far = {
        name: torch.linspace(0.0, 0.1, tensor.numel()).view_as(tensor) for name, tensor in read(adapted).tensors.items()
    }
    flat.set_adapter(Adapter({name: tensor + far[name] for name, tensor in adapted.initial.tensors.items()}))
    flat.pull_towards(adapted.initial, 10.0)
    monkeypatch.setattr(MezoTrainer, "_losses", lambda *_: [2.0, 2.0])
    expected = sum(10.0 * float((z * far[name]).sum()) for name, z in sign_tensors(flat, 0, 0).items())

    (report,) = flat.run(1)

    assert report.gradient_norm == pytest.approx(abs(expected), rel=1e-4)
    assert steep._amount(7.0, 0.01) == -steep._amount(-1.0, 0.01) == round(0.01 / UNIT)
    assert flat._amount(7.0, 0.01) == round(0.07 / UNIT)


def test_a_decay_that_undoes_training_is_refused(adapted: AdaptedModel) -> None:
    assert made(adapted)._decay == round(0.5 * 1e-2 * 0.5 * (1 << DECAY_BITS))
    with pytest.raises(OptionError, match="a sixteenth of the way"):
        made(adapted, weight_decay=20.0)


def test_no_activation_is_kept_and_a_shared_stack_is_left_empty(adapted: AdaptedModel) -> None:
    stack = AdapterStack(adapted)
    trainer = made(adapted)
    trainer.share(stack)

    trainer.run(1)

    assert trainer._stack is stack
    assert all(layer.factors is None for layer in stack._layers.values())
    assert all(parameter.grad is None for parameter in adapted.parameters.values())
