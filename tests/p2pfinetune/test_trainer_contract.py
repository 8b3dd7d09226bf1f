"""What every trainer owes, written once and run for each that will ever exist."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.model.adapter import AdaptedModel, attach
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.training.together import groups_of, train_together
from p2pfinetune.training.trainer import StepReport, Trainer, TrainerState
from p2pfinetune.training.trainers import TRAINERS

VARIANTS = [*((name, {}) for name in TRAINERS.names()), ("sgd", {"momentum": 0.0}), ("mezo", {"samples": 2})]
OPTIONS = TrainingOptions(batch_size=2, accumulation=2, context=12, lr=1e-2, seed=3)
STEPS = 4

every_trainer = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)


@pytest.fixture(scope="module")
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2, dropout=0.2))


@pytest.fixture(scope="module")
def without_noise(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2))


def split(seed: int = 0) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in (40, 30, 50, 33)])


def made(
    adapted: AdaptedModel, name: str, options: dict[str, Any], *, seed: int = 0, training: TrainingOptions = OPTIONS
) -> Trainer:
    return TRAINERS.make(name, options).trainer(adapted, split(seed), msgspec.structs.replace(training, seed=seed))


def assert_same(one: Trainer, other: Trainer) -> None:
    ours, theirs = one.state(), other.state()
    assert (ours.kind, ours.steps, dict(ours.counts)) == (theirs.kind, theirs.steps, dict(theirs.counts))
    assert ours.adapter.equals(theirs.adapter)
    assert ours.tensors.keys() == theirs.tensors.keys()
    for kept, tensors in theirs.tensors.items():
        assert all(torch.equal(tensor, ours.tensors[kept][path]) for path, tensor in tensors.items())


@every_trainer
def test_interrupted_after_any_step_it_goes_on_to_the_bit(adapted: AdaptedModel, name: str, options: dict) -> None:
    whole = made(adapted, name, options)
    states, reports = [whole.state()], []
    for _ in range(STEPS):
        reports += whole.run(1)
        states.append(whole.state())

    for done, state in enumerate(states):
        torch.rand(17)  # whatever else draws numbers in between
        resumed = made(adapted, name, options)
        resumed.load_state(state)

        assert resumed.run(STEPS - done) == reports[done:]
        assert_same(resumed, whole)


@every_trainer
def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    adapted: AdaptedModel, name: str, options: dict
) -> None:
    one, same, other = (made(adapted, name, options, seed=seed) for seed in (1, 1, 2))
    before = torch.get_rng_state()

    found = [trainer.run(2) for trainer in (one, same, other)]

    assert found[0] == found[1] != found[2]
    assert_same(one, same)
    assert torch.equal(torch.get_rng_state(), before)


@every_trainer
def test_the_loss_falls(without_noise: AdaptedModel, name: str, options: dict) -> None:
    text = TokenSplit.of([np.tile(np.arange(1, 9, dtype=np.uint16), 30)])
    lr, steps = (2e-3, 100) if name == "mezo" else (3e-2, 30)  # without a gradient: many steps, and none too long
    trainer = TRAINERS.make(name, options).trainer(without_noise, text, msgspec.structs.replace(OPTIONS, lr=lr))

    reports = trainer.run(steps)

    assert reports[-1].loss < reports[0].loss - 0.05  # how far differs by processor: these are long steps


@every_trainer
def test_what_was_done_stays_done_when_a_listener_raises(adapted: AdaptedModel, name: str, options: dict) -> None:
    class EnoughError(Exception):
        pass

    def stop(report: StepReport) -> None:
        if report.step == 2:
            raise EnoughError

    trainer, reference = made(adapted, name, options), made(adapted, name, options)
    with pytest.raises(EnoughError):
        trainer.run(5, stop)
    reference.run(2)

    assert_same(trainer, reference)


@every_trainer
def test_a_state_is_a_copy_and_forgetting_leaves_weights_and_steps(
    adapted: AdaptedModel, name: str, options: dict
) -> None:
    trainer, other = made(adapted, name, options), made(adapted, name, options)
    trainer.run(2)
    state = trainer.state()
    trainer.run(1)
    trainer.forget()

    other.load_state(state)
    ended = trainer.state()

    assert other.run(1)[0].step == ended.steps == 3
    assert other.adapter.equals(ended.adapter)
    assert ended.tensors == {}


@every_trainer
def test_the_state_of_another_trainer_is_refused_by_name(adapted: AdaptedModel, name: str, options: dict) -> None:
    trainer = made(adapted, name, options)
    trainer.run(1)
    state = trainer.state()

    with pytest.raises(CheckpointError, match=r"of the trainer 'lion', and this one is '" + name):
        trainer.load_state(dataclasses.replace(state, kind="lion"))
    with pytest.raises(CheckpointError, match="'curvature', which the trainer"):
        trainer.load_state(dataclasses.replace(state, tensors={**state.tensors, "curvature": state.adapter.tensors}))
    with pytest.raises(CheckpointError, match="'luck', which the trainer"):
        trainer.load_state(dataclasses.replace(state, counts={**state.counts, "luck": 7}))
    for other in set(TRAINERS.names()) - {name}:
        with pytest.raises(CheckpointError, match=f"'{name}', and this one"):
            made(adapted, other, {}).load_state(state)


@every_trainer
def test_the_state_of_another_rank_is_refused_and_changes_nothing(
    tiny_base: Base, adapted: AdaptedModel, name: str, options: dict
) -> None:
    wide = made(attach(tiny_base, AdapterSpec(rank=3)), name, options)
    wide.run(1)
    trainer = made(adapted, name, options)

    with pytest.raises(CheckpointError):
        trainer.load_state(wide.state())

    assert_same(trainer, made(adapted, name, options))


@every_trainer
def test_together_it_does_what_it_does_alone(without_noise: AdaptedModel, name: str, options: dict) -> None:
    alone, together = ([made(without_noise, name, options, seed=seed) for seed in range(3)] for _ in range(2))
    for trainers in (alone, together):
        trainers[0].run(2)
    expected = [trainer.run(2) for trainer in alone]

    found = train_together(together, 2)

    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.state().steps, ours.state().counts) == (theirs.state().steps, theirs.state().counts)
        for path, tensor in theirs.adapter.tensors.items():
            torch.testing.assert_close(ours.adapter.tensors[path], tensor, atol=3e-5, rtol=1e-4)
        for kept, tensors in theirs.state().tensors.items():
            for path, tensor in tensors.items():
                torch.testing.assert_close(ours.state().tensors[kept][path], tensor, atol=1e-5, rtol=1e-3)
    losses = [[report.loss for report in reports] for reports in (*found, *expected)]
    assert losses[:3] == [pytest.approx(row, rel=1e-5) for row in losses[3:]]


def test_trainers_of_different_rules_share_no_pass(without_noise: AdaptedModel) -> None:
    kinds = [("adamw", {}), ("sgd", {}), ("adamw", {}), ("sgd", {"momentum": 0.5}), ("adamw", {"beta1": 0.5})]

    groups = groups_of([made(without_noise, name, options) for name, options in kinds])

    assert groups == [[0, 2], [1], [3], [4]]


class OneByOne:
    """A trainer that cannot be batched: it says so, and is another one's in everything else."""

    batched = None

    def __init__(self, other: Trainer) -> None:
        self._other = other
        self.runs: list[int] = []

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        self.runs.append(steps)
        return self._other.run(steps, on_step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)


def test_one_that_cannot_be_batched_runs_by_itself_beside_those_that_can(without_noise: AdaptedModel) -> None:
    alone = [made(without_noise, "adamw", {}, seed=seed) for seed in range(3)]
    single = OneByOne(made(without_noise, "adamw", {}, seed=1))
    together = [made(without_noise, "adamw", {}), single, made(without_noise, "adamw", {}, seed=2)]
    expected = [trainer.run(2) for trainer in alone]

    found = train_together(together, 2)

    assert groups_of(together) == [[0, 2], [1]]
    assert single.runs == [2]
    assert found[1] == expected[1]
    assert_same(single, alone[1])


def corpus() -> Corpus:
    splits = [split(seed) for seed in range(4)]
    return Corpus(*splits, report=None, fingerprint="tiny")  # type: ignore[arg-type]


def learner(base: Base, name: str, options: dict[str, Any]) -> Learner:
    chosen = LearnerOptions(
        spec=AdapterSpec(rank=2, dropout=0.2), training=OPTIONS, trainer=name, trainer_options=options, twin=True
    )
    return Learner(base, corpus(), chosen, me=PeerId("me"), group="g")


@every_trainer
def test_through_a_checkpoint_it_goes_on_to_the_bit_and_its_twin_too(
    tiny_base: Base, tmp_path: Path, name: str, options: dict
) -> None:
    first, second = (learner(tiny_base, name, options) for _ in range(2))
    first.train(1)
    first._twin.part(corpus().train, first.own(), 9.0)
    first.train(2)
    first.save(tmp_path / "saved")

    second.restore(tmp_path / "saved")
    second.save(tmp_path / "again")

    assert (tmp_path / "again").read_bytes() == (tmp_path / "saved").read_bytes()
    assert first.train(1) == second.train(1)
    for ours, theirs in zip(second.trainers.values(), first.trainers.values(), strict=True):
        assert_same(ours, theirs)


@every_trainer
def test_a_checkpoint_of_another_trainer_is_refused_by_both_names_and_told_the_way_out(
    tiny_base: Base, tmp_path: Path, name: str, options: dict
) -> None:
    one = learner(tiny_base, name, options)
    one.train(1)
    one.save(tmp_path / "saved")

    for other in set(TRAINERS.names()) - {name}:
        with pytest.raises(CheckpointError, match=f"trainer '{name}', and this one is '{other}'") as refused:
            learner(tiny_base, other, {}).restore(tmp_path / "saved")
        assert f"--trainer {name}" in refused.value.hint


def test_the_trainer_is_no_part_of_the_network(tiny_base: Base) -> None:
    assert len({learner(tiny_base, name, options).network for name, options in VARIANTS}) == 1


def test_the_checkpoint_of_adamw_says_nothing_of_a_kind_as_before_there_were_others(
    tiny_base: Base, tmp_path: Path
) -> None:
    one = learner(tiny_base, "adamw", {})
    one.train(1)
    one.save(tmp_path / "saved")

    header = (tmp_path / "saved").read_bytes()[:4000]

    assert b'\\"trainer\\": {\\"steps\\": 1, \\"moment_steps\\": 1}' in header


def test_a_step_of_sgd_is_that_of_the_textbook(without_noise: AdaptedModel) -> None:
    """v <- m v + g and w <- w - lr v, with weight decay in g; the gradient from a trainer that only measures it."""
    training = msgspec.structs.replace(OPTIONS, clip=0.0, weight_decay=0.0)
    plain = made(without_noise, "sgd", {"momentum": 0.0, "scale": 2.0}, training=training)
    heavy = made(without_noise, "sgd", {"momentum": 0.9, "scale": 2.0}, training=training)
    (first,) = plain.run(1)
    start, after = without_noise.initial, plain.adapter
    gradient = {n: (start.tensors[n] - t) / first.lr for n, t in after.tensors.items()}
    plain.load_state(TrainerState(after, 1, "sgd"))
    (second,) = plain.run(1)
    next_gradient = {n: (after.tensors[n] - t) / second.lr for n, t in plain.adapter.tensors.items()}

    heavy.run(2)

    for n, tensor in heavy.adapter.tensors.items():
        expected = after.tensors[n] - second.lr * (0.9 * gradient[n] + next_gradient[n])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", TRAINERS.names())
def test_every_trainer_says_what_it_does_and_refuses_an_unknown_option(name: str) -> None:
    assert len(TRAINERS.help(name)) > 40
    with pytest.raises(OptionError, match="no option 'hope'"):
        TRAINERS.make(name, {"hope": 1})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("adamw", {"beta1": 1.0}), ("adamw", {"beta2": -0.1}), ("sgd", {"momentum": 1.0}), ("sgd", {"scale": 0.0}),
        ("mezo", {"eps": 0.0}), ("mezo", {"scale": -1.0}), ("mezo", {"samples": 0}), ("mezo", {"samples": 65}),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        TRAINERS.make(name, wrong)


def test_trainers_load_without_torch() -> None:
    code = (
        "import sys; from p2pfinetune.training.trainers import TRAINERS; [TRAINERS.find(n) for n in TRAINERS.names()];"
        "print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
