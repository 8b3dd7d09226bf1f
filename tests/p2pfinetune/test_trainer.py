"""Own training: what it changes, what it leaves alone, and that it goes on to the bit."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import structs

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.batches import Blocks
from p2pfinetune.training.schedule import learning_rate
from p2pfinetune.training.trainers.adamw import AdamW

OPTIONS = TrainingOptions(batch_size=2, accumulation=2, context=12, lr=1e-2, seed=3)


@pytest.fixture
def split() -> TokenSplit:
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in (40, 30, 50, 33)])


@pytest.fixture
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2, dropout=0.2))


def test_three_and_three_steps_in_a_fresh_object_are_six_steps_to_the_bit(tiny_base: Base, split: TokenSplit) -> None:
    spec = AdapterSpec(rank=2, dropout=0.2)
    whole = AdamW().trainer(attach(tiny_base, spec), split, OPTIONS)
    reports = whole.run(6)
    first = AdamW().trainer(attach(tiny_base, spec), split, OPTIONS)
    first.run(3)
    torch.rand(17)  # whatever else draws numbers in between

    second = AdamW().trainer(attach(tiny_base, spec), split, OPTIONS)
    second.load_state(first.state())
    rest = second.run(3)

    assert rest == reports[3:]
    assert second.adapter.equals(whole.adapter)
    assert second.state().counts["moment_steps"] == whole.state().counts["moment_steps"] == 6
    for kind, tensors in whole.state().tensors.items():
        assert all(torch.equal(t, second.state().tensors[kind][name]) for name, t in tensors.items())


def test_the_dropout_noise_depends_on_the_seed_and_the_step_alone(adapted: AdaptedModel, split: TokenSplit) -> None:
    moved = adapted.initial.plus(Adapter({n: torch.full_like(t, 0.1) for n, t in adapted.initial.tensors.items()}))

    def losses(seed: int) -> list[float]:
        trainer = AdamW().trainer(adapted, split, structs.replace(OPTIONS, seed=seed))
        trainer.set_adapter(moved)
        return [report.loss for report in trainer.run(2)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_every_step_has_its_own_blocks_and_its_own_noise(
    tiny_base: Base, adapted: AdaptedModel, split: TokenSplit
) -> None:
    """With weights that hardly move, only text and noise can make one step's loss differ from another's."""
    moved = adapted.initial.plus(Adapter({n: torch.full_like(t, 0.1) for n, t in adapted.initial.tensors.items()}))
    still = structs.replace(OPTIONS, lr=1e-12)

    def losses(text: TokenSplit, steps: int) -> list[float]:
        trainer = AdamW().trainer(adapted, text, still)
        trainer.set_adapter(moved)
        return [report.loss for report in trainer.run(steps)]

    one_block = TokenSplit.of([split.tokens[: OPTIONS.context + 1]])
    first, second = losses(one_block, 2)
    assert first != second  # the text is the same, so the noise is not

    without_noise = structs.replace(OPTIONS, lr=1e-12, batch_size=1, accumulation=1)
    plain = attach(tiny_base, AdapterSpec(rank=2))
    reports = AdamW().trainer(plain, split, without_noise).run(4)
    assert len({round(report.loss, 4) for report in reports}) == 4


def test_training_leaves_the_global_dice_alone(adapted: AdaptedModel, split: TokenSplit) -> None:
    before = torch.get_rng_state()

    AdamW().trainer(adapted, split, OPTIONS).step()

    assert torch.equal(torch.get_rng_state(), before)


def test_only_the_adapter_changes_and_all_of_it(adapted: AdaptedModel, split: TokenSplit) -> None:
    live = {id(p) for p in adapted.parameters.values()}
    frozen = {name: p.clone() for name, p in adapted.model.named_parameters() if id(p) not in live}
    trainer = AdamW().trainer(adapted, split, OPTIONS)

    trainer.run(2)

    assert frozen.keys()
    assert all(torch.equal(p, adapted.model.get_parameter(name)) for name, p in frozen.items())
    for name, tensor in trainer.adapter.tensors.items():
        assert not torch.equal(tensor, adapted.initial.tensors[name]), name


def test_training_lowers_the_loss(adapted: AdaptedModel) -> None:
    split = TokenSplit.of([np.tile(np.arange(1, 9, dtype=np.uint16), 30)])
    reports = AdamW().trainer(adapted, split, structs.replace(OPTIONS, lr=3e-2)).run(30)

    assert reports[-1].loss < reports[0].loss - 0.3


def test_a_peer_and_its_twin_on_one_live_model_do_the_same(adapted: AdaptedModel, split: TokenSplit) -> None:
    peer, twin = AdamW().trainer(adapted, split, OPTIONS), AdamW().trainer(adapted, split, OPTIONS)

    by_turns = [(peer.step(), twin.step()) for _ in range(3)]

    assert all(left == right for left, right in by_turns)
    assert peer.adapter.equals(twin.adapter)


def test_the_live_model_may_be_used_for_other_things_in_between(adapted: AdaptedModel, split: TokenSplit) -> None:
    undisturbed = AdamW().trainer(adapted, split, OPTIONS)
    undisturbed.run(4)
    trainer = AdamW().trainer(adapted, split, OPTIONS)
    trainer.run(2)

    write(adapted, adapted.initial)
    trainer.run(2)

    assert trainer.adapter.equals(undisturbed.adapter)


def test_accumulated_batches_are_one_large_batch(tiny_base: Base, split: TokenSplit) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    one = AdamW().trainer(adapted, split, structs.replace(OPTIONS, batch_size=4, accumulation=1)).step()
    parts = AdamW().trainer(adapted, split, structs.replace(OPTIONS, batch_size=1, accumulation=4)).step()

    assert parts.tokens == one.tokens == 48
    assert parts.loss == pytest.approx(one.loss, rel=1e-5)
    assert parts.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-4)


def test_the_reported_loss_is_the_cross_entropy_of_the_blocks(tiny_base: Base, split: TokenSplit) -> None:
    batch = Blocks(split, 12, 3).batch(0, 4)
    with torch.no_grad():
        logits = tiny_base.model(input_ids=batch.inputs_bt).logits
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_bt.flatten())

    report = AdamW().trainer(attach(tiny_base, AdapterSpec(rank=2)), split, OPTIONS).step()

    assert report.loss == pytest.approx(float(expected), rel=1e-5)


def test_one_step_is_a_step_of_adamw(tiny_base: Base, split: TokenSplit) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    batch = Blocks(split, 12, 3).batch(0, 4)
    trainer = AdamW().trainer(adapted, split, structs.replace(OPTIONS, clip=0.0, weight_decay=0.1))
    rate = trainer.step().lr
    write(adapted, adapted.initial)
    logits = adapted.model(input_ids=batch.inputs_bt).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets_bt.flatten())
    gradients = dict(zip(adapted.parameters, torch.autograd.grad(loss, list(adapted.parameters.values())), strict=True))

    assert rate == learning_rate(0, 1e-2, 0)
    for name, start in adapted.initial.tensors.items():
        # after one step both moments are corrected to the gradient and its square
        expected = start * (1 - rate * 0.1) - rate * gradients[name] / (gradients[name].abs() + 1e-8)
        torch.testing.assert_close(trainer.adapter.tensors[name], expected, atol=2e-6, rtol=1e-4)


def test_the_clip_bounds_what_reaches_the_optimizer(adapted: AdaptedModel, split: TokenSplit) -> None:
    trainer = AdamW().trainer(adapted, split, structs.replace(OPTIONS, clip=1e-4))
    report = trainer.step()

    first = torch.cat([t.flatten() for t in trainer.state().tensors["exp_avg"].values()])
    assert report.gradient_norm > 1e-4
    assert float(first.norm()) == pytest.approx(0.1 * 1e-4, rel=1e-3)  # (1 - beta1) times the clipped gradient


def test_a_gradient_that_is_not_finite_changes_nothing_and_training_goes_on(
    adapted: AdaptedModel, split: TokenSplit
) -> None:
    trainer = AdamW().trainer(adapted, split, OPTIONS)
    trainer.run(1)
    broken = {
        n: torch.full_like(t, math.inf) if i == 0 else t for i, (n, t) in enumerate(trainer.adapter.tensors.items())
    }
    sound = trainer.adapter
    trainer.set_adapter(Adapter(broken))

    report = trainer.step()

    assert report.skipped
    assert trainer.adapter.equals(Adapter(broken))
    trainer.set_adapter(sound)
    assert not trainer.step().skipped
    assert trainer.steps == 3


def test_moments_survive_other_weights_and_are_gone_after_a_reset(adapted: AdaptedModel, split: TokenSplit) -> None:
    trainer = AdamW().trainer(adapted, split, OPTIONS)
    trainer.run(2)

    trainer.set_adapter(adapted.initial)
    assert trainer.state().counts["moment_steps"] == 2
    trainer.forget()

    assert trainer.state().tensors == {}
    assert trainer.steps == 2


def test_what_was_done_stays_done_when_a_callback_raises(adapted: AdaptedModel, split: TokenSplit) -> None:
    class EnoughError(Exception):
        pass

    def stop(report: Any) -> None:
        if report.step == 2:
            raise EnoughError

    trainer = AdamW().trainer(adapted, split, OPTIONS)
    with pytest.raises(EnoughError):
        trainer.run(5, stop)

    reference = AdamW().trainer(adapted, split, OPTIONS)
    reference.run(2)
    assert trainer.steps == 2
    assert trainer.adapter.equals(reference.adapter)
    assert not adapted.model.training


def test_the_schedule_is_followed(adapted: AdaptedModel, split: TokenSplit) -> None:
    trainer = AdamW().trainer(adapted, split, structs.replace(OPTIONS, total_steps=5))

    rates = [report.lr for report in trainer.run(6)]

    assert rates == [learning_rate(step, 1e-2, 5) for step in range(6)]


def test_state_of_another_rank_is_refused(tiny_base: Base, adapted: AdaptedModel, split: TokenSplit) -> None:
    other = AdamW().trainer(attach(tiny_base, AdapterSpec(rank=3)), split, OPTIONS)

    with pytest.raises(CheckpointError):
        AdamW().trainer(adapted, split, OPTIONS).load_state(other.state())


def test_a_state_is_a_copy(adapted: AdaptedModel, split: TokenSplit) -> None:
    trainer = AdamW().trainer(adapted, split, OPTIONS)
    trainer.run(1)
    state = trainer.state()
    kept = {kind: {n: t.clone() for n, t in tensors.items()} for kind, tensors in state.tensors.items()}

    trainer.run(2)

    assert all(torch.equal(t, kept[kind][n]) for kind, tensors in state.tensors.items() for n, t in tensors.items())
    assert not state.adapter.equals(trainer.adapter)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"batch_size": 0}, {"context": 0}, {"total_steps": -1}, {"clip": -1.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        TrainingOptions(**wrong)


def test_a_pull_adds_its_strength_times_the_distance_to_the_gradient(tiny_base: Base, split: TokenSplit) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    target = Adapter({n: torch.full_like(t, 0.3) for n, t in adapted.initial.tensors.items()})
    options = structs.replace(OPTIONS, clip=0.0)

    def gradient(strength: float) -> Adapter:
        trainer = AdamW().trainer(adapted, split, options)
        trainer.pull_towards(target, strength)
        trainer.step()
        return Adapter({n: t / 0.1 for n, t in trainer.state().tensors["exp_avg"].items()})  # divided by 1 - beta1

    added = gradient(2.0).minus(gradient(0.0))

    for name, start in adapted.initial.tensors.items():
        torch.testing.assert_close(added.tensors[name], 2.0 * (start - target.tensors[name]), atol=1e-5, rtol=1e-4)


def test_a_strong_pull_keeps_the_weights_near_and_can_be_ended(tiny_base: Base, split: TokenSplit) -> None:
    def distance(strength: float) -> float:
        adapted = attach(tiny_base, AdapterSpec(rank=2))
        trainer = AdamW().trainer(adapted, split, OPTIONS)
        trainer.pull_towards(adapted.initial, 50.0)
        trainer.pull_towards(adapted.initial if strength else None, strength)
        trainer.run(20)
        return trainer.adapter.minus(adapted.initial).norm()

    assert distance(50.0) < 0.5 * distance(0.0)


def test_a_pull_to_an_adapter_of_another_rank_is_refused(
    tiny_base: Base, adapted: AdaptedModel, split: TokenSplit
) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        AdamW().trainer(adapted, split, OPTIONS).pull_towards(attach(tiny_base, AdapterSpec(rank=3)).initial, 1.0)
