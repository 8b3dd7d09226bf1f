"""Training together is training one by one, within what the order of additions changes."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, read
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training import steps
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.together import groups_of, reason_against, train_together
from p2pfinetune.training.trainer import StepReport
from p2pfinetune.training.trainers.adamw import AdamW

OPTIONS = TrainingOptions(batch_size=2, accumulation=2, context=12, lr=3e-3, clip=0.5, weight_decay=0.1)
SPEC = AdapterSpec(rank=2, alpha=4)


def split(seed: int, length: int = 40) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for _ in range(4)])


def noisy(adapter: Adapter, seed: int, size: float = 0.1) -> Adapter:
    dice = torch.Generator().manual_seed(seed)
    return Adapter({n: t + size * torch.randn(t.shape, generator=dice) for n, t in adapter.tensors.items()})


def peers(adapted: AdaptedModel, count: int = 3, **changes: Any) -> list[GradientTrainer]:
    """Trainers that differ in all that may differ; B is not zero, so that A has a gradient."""
    trainers = []
    for i in range(count):
        options = structs.replace(OPTIONS, seed=i, lr=OPTIONS.lr * (1 + i), total_steps=7 * i, **changes)
        trainers.append(AdamW().trainer(adapted, split(i), options))
        trainers[-1].set_adapter(noisy(adapted.initial, i))
    return trainers


def assert_equal(together: Sequence[GradientTrainer], alone: Sequence[GradientTrainer]) -> None:
    for left, right in zip(together, alone, strict=True):
        ours, theirs = left.state(), right.state()
        assert (ours.kind, ours.steps, ours.counts, ours.tensors.keys()) == (
            theirs.kind,
            theirs.steps,
            theirs.counts,
            theirs.tensors.keys(),
        )
        for name, tensor in theirs.adapter.tensors.items():
            torch.testing.assert_close(ours.adapter.tensors[name], tensor, atol=3e-5, rtol=1e-4, equal_nan=True)
        for kind, moments in theirs.tensors.items():
            for name, tensor in moments.items():
                torch.testing.assert_close(ours.tensors[kind][name], tensor, atol=1e-5, rtol=1e-3)


def assert_same_reports(together: list[list[StepReport]], alone: list[list[StepReport]]) -> None:
    for ours, theirs in zip(together, alone, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            assert (left.step, left.tokens, left.lr, left.skipped) == (
                right.step,
                right.tokens,
                right.lr,
                right.skipped,
            )
            assert left.loss == pytest.approx(right.loss, rel=1e-5, nan_ok=True)
            assert left.gradient_norm == pytest.approx(right.gradient_norm, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize(
    "family", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt_neox"]
)
def test_together_is_one_by_one_in_every_family(base_of: Callable[[str], Base], family: str) -> None:
    adapted = attach(base_of(family), SPEC)
    alone, together = peers(adapted), peers(adapted)
    reports = [trainer.run(3) for trainer in alone]
    assert reason_against(together) == ""

    found = train_together(together, 3)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


def without_dropout(base: Base) -> None:
    for module in base.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0


def test_gpt2_goes_together_once_its_dropout_is_off(
    tiny_folder: Callable[[str], Any], base_of: Callable[[str], Base]
) -> None:
    from p2pfinetune.model.base import load_base

    assert "dropout" in reason_against(peers(attach(base_of("gpt2"), SPEC)))
    base = load_base(str(tiny_folder("gpt2")), device="cpu")
    without_dropout(base)
    adapted = attach(base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    reports = [trainer.run(3) for trainer in alone]
    assert reason_against(together) == ""

    found = train_together(together, 3)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


@pytest.mark.parametrize(
    "changes",
    [{"clip": 0.0}, {"clip": 1e-3}, {"accumulation": 1}, {"batch_size": 1, "accumulation": 3}, {"weight_decay": 0.0}],
)
def test_together_is_one_by_one_with_other_options(tiny_base: Base, changes: dict[str, Any]) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted, **changes), peers(adapted, **changes)
    reports = [trainer.run(3) for trainer in alone]

    found = train_together(together, 3)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


@pytest.mark.parametrize("positions", [1, 24, 60])
def test_passes_that_hold_only_some_peers_or_sequences_change_nothing(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch, positions: int
) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    reports = [trainer.run(2) for trainer in alone]
    monkeypatch.setitem(steps.POSITIONS, "cpu", positions)

    found = train_together(together, 2)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


def test_peers_at_different_places_of_their_training_go_together(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted, 4), peers(adapted, 4)
    for trainers in (alone, together):
        trainers[0].run(3)
        trainers[1].run(2)
        trainers[1].forget()
        trainers[2].run(1)
        trainers[2].set_adapter(noisy(adapted.initial, 9))
    reports = [trainer.run(3) for trainer in alone]

    found = train_together(together, 3)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


def test_by_turns_together_and_alone_is_alone_and_one_stack_serves_all_calls(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    for trainer in alone:
        trainer.run(5)
    stack = AdapterStack(adapted)

    train_together(together, 2, stack=stack)
    for trainer in together:
        trainer.run(1)
    train_together(together[:2], 2, stack=stack)
    train_together([together[2], peers(adapted)[0]], 2, stack=stack)

    assert_equal(together, alone)


def test_training_goes_on_from_a_state_that_was_saved(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    whole, first = peers(adapted), peers(adapted)
    train_together(whole, 4)
    train_together(first, 2)
    second = peers(adapted)
    for new, old in zip(second, first, strict=True):
        new.load_state(old.state())

    train_together(second, 2)

    assert_equal(second, whole)
    assert all(t.is_contiguous() for t in second[0].state().tensors["exp_avg"].values())


def test_a_gradient_that_is_not_finite_skips_the_step_of_its_own_peer_alone(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    for trainers in (alone, together):
        tensors = dict(trainers[1].adapter.tensors)
        name = next(iter(tensors))
        trainers[1].set_adapter(Adapter({**tensors, name: torch.full_like(tensors[name], math.inf)}))
    reports = [trainer.run(2) for trainer in alone]

    found = train_together(together, 2)

    assert [[report.skipped for report in row] for row in found] == [[False] * 2, [True] * 2, [False] * 2]
    assert_same_reports(found, reports)
    assert_equal(together, alone)
    assert together[1].state().tensors == {}


def test_a_pull_acts_on_its_own_peer_alone(tiny_base: Base) -> None:
    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    for trainers in (alone, together):
        trainers[1].pull_towards(noisy(adapted.initial, 5), 0.7)
        trainers[2].pull_towards(adapted.initial, 0.1)
    reports = [trainer.run(3) for trainer in alone]

    found = train_together(together, 3)

    assert_same_reports(found, reports)
    assert_equal(together, alone)


def test_live_models_of_one_base_go_together_and_stay_as_they_are(tiny_base: Base) -> None:
    models = [attach(tiny_base, SPEC), attach(tiny_base, structs.replace(SPEC, init_seed=3))]
    alone = [peers(adapted)[i] for i, adapted in enumerate(models)]
    together = [peers(adapted)[i] for i, adapted in enumerate(models)]
    for trainer in alone:
        trainer.run(2)
    before = [read(adapted) for adapted in models]
    assert groups_of(together) == [[0, 1]]

    train_together(together, 2)

    assert_equal(together, alone)
    assert all(read(adapted).equals(left) for adapted, left in zip(models, before, strict=True))


def test_only_trainers_of_one_base_kind_and_shape_of_batch_are_grouped(
    tiny_base: Base, base_of: Callable[[str], Base]
) -> None:
    adapted = attach(tiny_base, SPEC)
    short = AdamW().trainer(adapted, TokenSplit.of([np.arange(1, 9, dtype=np.uint16)]), OPTIONS)
    trainers = [
        *peers(adapted, 2),
        peers(attach(base_of("qwen2"), SPEC))[0],
        peers(attach(tiny_base, structs.replace(SPEC, rank=3)))[0],
        peers(attach(tiny_base, structs.replace(SPEC, alpha=9)))[0],
        peers(adapted, batch_size=1)[0],
        short,
    ]

    assert groups_of(trainers) == [[0, 1], [2], [3], [4], [5], [6]]


def test_what_cannot_go_together_runs_one_by_one_to_the_bit(tiny_base: Base) -> None:
    adapted = attach(tiny_base, structs.replace(SPEC, dropout=0.2))
    alone, together = peers(adapted), peers(adapted)
    reports = [trainer.run(2) for trainer in alone]
    assert "dropout" in reason_against(together)
    assert "company" in reason_against(together[:1])
    assert "twice" in reason_against([together[0], together[0]])

    found = train_together(together, 2)

    assert found == reports
    assert all(left.adapter.equals(right.adapter) for left, right in zip(together, alone, strict=True))


def test_every_step_of_every_peer_is_told_and_stays_done_when_the_listener_raises(tiny_base: Base) -> None:
    class EnoughError(Exception):
        pass

    adapted = attach(tiny_base, SPEC)
    alone, together = peers(adapted), peers(adapted)
    for trainer in alone:
        trainer.run(2)
    told: list[tuple[int, int]] = []

    def listen(place: int, report: StepReport) -> None:
        told.append((place, report.step))
        if told[-1] == (2, 2):
            raise EnoughError

    with pytest.raises(EnoughError):
        train_together(together, 5, listen)

    assert told == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]
    assert_equal(together, alone)


def test_training_together_leaves_base_and_dice_alone(tiny_base: Base) -> None:
    frozen = {name: p.clone() for name, p in tiny_base.model.named_parameters()}
    dice = torch.get_rng_state()

    train_together(peers(attach(tiny_base, SPEC)), 2)

    assert all(torch.equal(p, tiny_base.model.get_parameter(name)) for name, p in frozen.items())
    assert tiny_base.model.get_output_embeddings().weight is tiny_base.model.get_input_embeddings().weight
    assert torch.equal(dice, torch.get_rng_state())
