"""Interrupted at any round, training goes on as if nothing had been: the same losses, the same learning rates, the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.training.schedule import NOMINAL_STEPS, WARMUP
from p2pfinetune.training.trainer import StepReport

ROUNDS, STEPS = 6, 4
TOLERANCE = 1e-3  # nats; the bits are in fact the same
OPTIONS = LearnerOptions(
    spec=AdapterSpec(rank=2, dropout=0.1),
    training=TrainingOptions(batch_size=2, context=16, lr=5e-3),
    trust="uniform",
    tolerance=0.5,
    twin=True,
)
SCHEDULES = {
    "constant, cut in its warm-up": 0,
    "one cycle": ROUNDS * STEPS,
    "one cycle that ends before": ROUNDS * STEPS // 2,
    "one cycle, cut in its warm-up": int(ROUNDS * STEPS / 2 / WARMUP),
}


def corpus(seed: int) -> Corpus:
    dice = np.random.default_rng(seed)
    splits = [TokenSplit.of([dice.integers(1, 320, 40).astype(np.uint16) for _ in range(n)]) for n in (12, 4, 4, 4)]
    return Corpus(*splits, report=None, fingerprint=str(seed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def make(tiny_base: Base) -> Callable[..., Learner]:
    def learner(total_steps: int = 0, *, seed: int = 0, me: str = "me", dropout: float = 0.1) -> Learner:
        training, spec = (
            structs.replace(OPTIONS.training, total_steps=total_steps),
            structs.replace(OPTIONS.spec, dropout=dropout),
        )
        options = structs.replace(OPTIONS, training=training, spec=spec)
        return Learner(tiny_base, corpus(seed), options, me=PeerId(me), group="test")

    return learner


@pytest.fixture(scope="module")
def neighbours(make: Callable[..., Learner]) -> list[dict[PeerId, LoraUpdate]]:
    """What others share in each round; in the fourth nobody is there."""
    friend, shared = make(seed=1, me="friend"), []
    for number in range(ROUNDS):
        friend.train(STEPS)
        update = friend.admit(friend.encode("bf16"), "bf16")
        assert isinstance(update, LoraUpdate)
        shared.append({PeerId("friend"): update} if number != 3 else {})
    return shared


class Run:
    """Rounds of a learner, its curve, and where it may be interrupted: after every training and every merge."""

    def __init__(self, make: Callable[[], Learner], folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._make, self._folder = make, folder
        self.learner, self.curve, self.ended = make(), [], []
        self.kept: list[Path] = []

    def save(self) -> None:
        self.kept.append(self._folder / f"{len(self.kept)}.checkpoint")
        self.learner.save(self.kept[-1])
        self.learner.save_best(self.kept[-1].with_suffix(".best"))

    def restore(self, path: Path, best_guard: float) -> None:
        self.learner = self._make()
        self.learner.restore(path)
        self.learner.restore_best(path.with_suffix(".best"), best_guard)

    def train(self) -> None:
        self.learner.train(STEPS, self.curve.append)

    def merge(self, shared: dict[PeerId, LoraUpdate]) -> None:
        self.ended.append(self.learner.collaborate(shared))

    def state(self) -> list[Any]:
        learner = self.learner
        adapters = [learner.personal(), learner.own(), *(trainer.adapter for trainer in learner.trainers.values())]
        return [learner.steps, learner.best_guard, *(adapter.vector().tolist() for adapter in adapters)]


def same_curve(found: list[StepReport], expected: list[StepReport]) -> None:
    assert [report.step for report in found] == [report.step for report in expected]
    assert [report.lr for report in found] == [report.lr for report in expected]
    assert [report.loss for report in found] == pytest.approx([report.loss for report in expected], abs=TOLERANCE)
    assert found == expected  # to the bit, gradients included


@pytest.mark.parametrize("total_steps", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_interrupted_after_any_training_or_merge_the_curve_is_the_same(
    make: Callable[..., Learner], neighbours: list[dict[PeerId, LoraUpdate]], tmp_path: Path, total_steps: int
) -> None:
    unbroken = Run(lambda: make(total_steps), tmp_path)
    for shared in neighbours:
        unbroken.train()
        unbroken.save()
        unbroken.merge(shared)
        unbroken.save()

    places = list(enumerate(unbroken.kept[:-2]))
    # only the learning rate tells the schedules apart: with the others, after every other merge and training is enough
    for number, path in places if total_steps == 0 else places[::3]:
        # as far as the end of the next round: where that is the same, so is all that comes after it
        finished, is_trained = number // 2, number % 2 == 0
        resumed = Run(lambda: make(total_steps), tmp_path / str(number))
        before = unbroken.ended[finished - 1].best_guard if finished else resumed.learner.best_guard
        resumed.restore(path, before if is_trained else unbroken.ended[finished].best_guard)
        if is_trained:
            resumed.merge(neighbours[finished])
        resumed.train()
        resumed.merge(neighbours[finished + 1])
        resumed.save()

        same_curve(resumed.curve, unbroken.curve[(finished + 1) * STEPS : (finished + 2) * STEPS])
        assert resumed.ended == unbroken.ended[finished + (not is_trained) : finished + 2]
        assert resumed.kept[0].read_bytes() == unbroken.kept[2 * finished + 3].read_bytes()


@pytest.mark.parametrize("dropout", [0.1, 0.0], ids=["twin one by one", "twin in the same passes"])
def test_interrupted_twice_in_every_round_the_curve_is_the_same(
    make: Callable[..., Learner], neighbours: list[dict[PeerId, LoraUpdate]], tmp_path: Path, dropout: float
) -> None:
    unbroken, broken = (Run(lambda: make(dropout=dropout), tmp_path) for _ in range(2))
    for shared in neighbours if dropout else neighbours[:3]:
        unbroken.train()
        unbroken.merge(shared)
        for step in (broken.train, lambda shared=shared: broken.merge(shared)):
            step()
            broken.save()
            broken.restore(broken.kept[-1], broken.learner.best_guard)

    same_curve(broken.curve, unbroken.curve)
    assert broken.ended == unbroken.ended
    assert broken.state() == unbroken.state()


def test_the_rounds_of_these_tests_cut_a_warm_up_and_merge_with_others(
    make: Callable[..., Learner], neighbours: list[dict[PeerId, LoraUpdate]], tmp_path: Path
) -> None:
    run = Run(make, tmp_path)
    for shared in neighbours:
        run.train()
        run.merge(shared)
    rates = [report.lr for report in run.curve]

    assert STEPS < WARMUP * NOMINAL_STEPS < ROUNDS * STEPS
    assert rates[:19] == sorted(set(rates[:19]))
    assert rates[20:] == [OPTIONS.training.lr] * (len(rates) - 20)
    assert any(ended.accepted and len(ended.row.weights) > 1 for ended in run.ended)
