"""What is not shared never leaves, and nobody else's numbers ever change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from safetensors.torch import save

from p2pfinetune.codec import CODECS
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES, MergeRule
from p2pfinetune.model.adapter import Adapter, FactorSet, attach, initial_adapter, network_digest
from p2pfinetune.model.base import Base
from p2pfinetune.model.traits import network_traits
from p2pfinetune.names import SHARINGS, PeerId, Refusal, Sharing, TrustRow
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.collaborate import merged_by, rule_for
from p2pfinetune.round.comparison import copies, norm_outliers
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate, default_max_norm, encode_update, inspect, moved
from p2pfinetune.simulation.config import AdapterChoice
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import AdamW
from p2pfinetune.trust import SCHEMES
from tests.p2pfinetune.test_learner import corpus

ME, FRIEND, OTHER = PeerId("me"), PeerId("friend"), PeerId("other")
START = initial_adapter({"m.q": (6, 10), "m.v": (5, 7)}, AdapterSpec(rank=2))
partly = pytest.mark.parametrize("sharing", ["a", "b"])


def trained(seed: int, of: str = "AB", scale: float = 0.1) -> Adapter:
    """Some of the factors moved."""
    dice = torch.Generator().manual_seed(seed)
    noise = {name: scale * torch.randn(t.shape, generator=dice) for name, t in START.tensors.items()}
    return Adapter({name: t + noise[name] * (name[-1] in of) for name, t in START.tensors.items()})


def spec_of(sharing: Sharing) -> AdapterSpec:
    return AdapterSpec(rank=2, sharing=sharing)


def schema_of(sharing: Sharing) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape in START.schema.items() if spec_of(sharing).shares(name)}


@partly
@pytest.mark.parametrize("codec_name", CODECS.names())
def test_the_bytes_that_leave_do_not_depend_on_what_is_kept(sharing: Sharing, codec_name: str) -> None:
    codec, kept = CODECS.make(codec_name), "B" if sharing == "a" else "A"
    own = trained(1)
    other = Adapter({n: t + 7.0 * n.endswith(kept) for n, t in own.tensors.items()})
    seen: list[FactorSet] = []

    def hide(delta: FactorSet) -> FactorSet:
        seen.append(delta)
        return delta

    told = encode_update(own, START, codec, hide, spec_of(sharing))

    assert told == encode_update(other, START, codec, None, spec_of(sharing))
    assert f"lora_{kept}".encode() not in told
    assert seen[0].schema == schema_of(sharing)  # private publishing hides what leaves and measures nothing else
    assert len(told) <= codec.max_bytes(schema_of(sharing)) <= codec.max_bytes(START.schema)  # int4 counts whole blocks


@partly
def test_an_update_with_what_this_network_does_not_share_is_refused_before_a_tensor_is_made(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safetensors.torch.load", lambda _: pytest.fail("it came as far as torch"))
    whole = encode_update(trained(1), START, CODECS.make("fp32"))
    swapped = save({name: torch.zeros(s) for name, s in schema_of("b" if sharing == "a" else "a").items()})

    for blob in (whole, swapped):
        found = inspect(blob + b"", "fp32", schema_of(sharing), max_norm=math.inf)
        assert isinstance(found, Refusal)
        assert found.reason in {"schema", "oversize"}
    padded = {**schema_of(sharing), "m.q.lora_X": (1, 1)}
    found = inspect(save({n: torch.zeros(s) for n, s in padded.items()}), "fp32", schema_of(sharing), max_norm=1.0)
    assert isinstance(found, Refusal)


@partly
def test_a_neighbour_is_what_it_shares_beside_what_i_keep(sharing: Sharing) -> None:
    own, theirs = trained(1), trained(2)
    told = inspect(
        encode_update(theirs, START, CODECS.make("fp32"), spec=spec_of(sharing)), "fp32", schema_of(sharing), max_norm=9
    )
    assert isinstance(told, LoraUpdate)

    at_me = told.adapter(START, own)

    for name, tensor in at_me.tensors.items():
        if spec_of(sharing).shares(name):
            torch.testing.assert_close(tensor, theirs.tensors[name])
        else:
            assert tensor is own.tensors[name]


@partly
@pytest.mark.parametrize("name", RULES.names())
def test_whatever_a_rule_does_what_is_kept_stays_to_the_bit(sharing: Sharing, name: str) -> None:
    if sharing not in RULES.find(name).sharings:
        with pytest.raises(OptionError, match="needs both factors"):
            rule_for(name, {}, spec_of(sharing))
        return
    own = trained(1)
    others = {p: LoraUpdate(moved(trained(s), START, spec_of(sharing))).adapter(START, own) for p, s in OTHERS.items()}
    row = TrustRow({ME: 0.1, FRIEND: 0.3, OTHER: 0.6})

    merged = merged_by(row, ME, own, others, rule_for(name, {}, spec_of(sharing)), spec_of(sharing))

    assert all(torch.equal(t, own.tensors[n]) for n, t in merged.tensors.items() if not spec_of(sharing).shares(n))


OTHERS = {FRIEND: 2, OTHER: 3}


class Doubling(MergeRule):
    """A rule that leaves nothing as it was."""

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        return Adapter({name: 2.0 * tensor + 1.0 for name, tensor in own.tensors.items()})


@partly
def test_a_rule_that_changes_everything_changes_nothing_that_is_kept(sharing: Sharing) -> None:
    own = trained(1)

    merged = merged_by(TrustRow({ME: 0.5, FRIEND: 0.5}), ME, own, {FRIEND: own}, Doubling(), spec_of(sharing))

    for name, tensor in merged.tensors.items():
        assert torch.equal(tensor, own.tensors[name]) != spec_of(sharing).shares(name)


def test_peers_are_compared_by_what_they_share_and_not_by_what_i_keep() -> None:
    spec, own = spec_of("a"), trained(1, scale=50.0)
    told = {peer: moved(trained(seed, "A"), START, spec) for peer, seed in OTHERS.items()}
    at_me = {peer: LoraUpdate(delta).adapter(START, own) for peer, delta in told.items()}

    deltas = {peer: moved(adapter, START, spec) for peer, adapter in at_me.items()}

    assert copies(deltas) == ()
    assert copies({peer: adapter.minus(START) for peer, adapter in at_me.items()})  # my own B would make them one
    mine = moved(trained(4, "A"), START, spec)
    far = FactorSet({name: 90.0 * t for name, t in deltas[OTHER].tensors.items()})
    assert norm_outliers(mine, {FRIEND: deltas[FRIEND], OTHER: far}).keys() == {OTHER}


class Sees:
    """A context that knows what is shared, and measures nothing."""

    def __init__(self, sharing: Sharing) -> None:
        self._spec = spec_of(sharing)

    def moved(self, adapter: Adapter) -> FactorSet:
        return moved(adapter, START, self._spec)


@pytest.mark.parametrize("options", [{}, {"faithful": True}])
def test_similarity_of_weights_is_that_of_what_is_shared(options: dict[str, Any]) -> None:
    scheme = SCHEMES.make("weight-similarity", options)

    def scores(own: Adapter) -> dict[PeerId, float]:
        told = {peer: LoraUpdate(moved(trained(s), START, spec_of("a"))) for peer, s in OTHERS.items()}
        at_me = {peer: update.adapter(START, own) for peer, update in told.items()}
        return scheme.scores(ME, {**at_me, ME: own}, Sees("a"))  # type: ignore[arg-type]

    own = trained(1)
    assert scores(own) == scores(Adapter({n: t * (1 + 30 * n.endswith("B")) for n, t in own.tensors.items()}))


def test_the_network_says_what_is_shared_and_today_s_network_is_called_as_before(tiny_base: Base) -> None:
    digests, traits = set(), set()
    for sharing in SHARINGS:
        live = attach(tiny_base, AdapterSpec(rank=2, sharing=sharing))
        digests.add(network_digest(tiny_base, live.spec, live.targets, live.initial, "lab"))
        traits.add(network_traits(tiny_base, live.spec, live.targets)["adapter"])

    assert len(digests) == len(traits) == len(SHARINGS)
    plain = attach(tiny_base, AdapterSpec(rank=2))
    assert network_digest(tiny_base, plain.spec, plain.targets, plain.initial, "lab") in digests
    assert plain.shared_schema == plain.schema
    assert default_max_norm(plain.shared_schema) == math.sqrt(plain.initial.vector().numel())


def learner_of(base: Base, sharing: Sharing, seed: int = 0, **changes: Any) -> Learner:
    training = TrainingOptions(batch_size=2, context=16, lr=5e-3, seed=seed)
    options = LearnerOptions(
        spec=AdapterSpec(rank=2, sharing=sharing), training=training, tolerance=5.0, guarded=False, trust="uniform",
        **changes,
    )  # fmt: skip
    return Learner(base, corpus(seed), options, me=PeerId(f"peer {seed}"), group="test")


def parts(adapter: Adapter, end: str) -> dict[str, torch.Tensor]:
    return {name: t for name, t in adapter.tensors.items() if name.endswith(end)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(t, right[name]) for name, t in left.items())


def test_a_frozen_a_has_no_gradient_and_no_moments_and_never_moves(tiny_base: Base, tmp_path: Path) -> None:
    learner, friend = (learner_of(tiny_base, "b", seed, twin=True) for seed in (0, 1))
    start = parts(learner.own(), ".lora_A")
    learner.train(2)
    friend.train(2)

    told = learner.admit(friend.encode("fp32"), "fp32")
    assert isinstance(told, LoraUpdate)
    learner.collaborate({PeerId("peer 1"): told})
    learner.train(2)  # with the twin, in one pass

    for trainer in learner.trainers.values():
        state = trainer.state()
        assert all(name.endswith(".lora_B") for moments in state.tensors.values() for name in moments)
        assert same(parts(trainer.adapter, ".lora_A"), start)
        assert not same(parts(trainer.adapter, ".lora_B"), parts(friend.own(), ".lora_B"))
    assert learner.adapter_parameters == sum(t.numel() for t in parts(learner.own(), ".lora_B").values())
    learner.save(tmp_path / "learner")
    again = learner_of(tiny_base, "b", twin=True)
    again.restore(tmp_path / "learner")
    learner.train(1)
    again.train(1)
    assert again.own().equals(learner.own())


def test_with_a_alone_shared_both_factors_train_and_only_a_is_mixed(tiny_base: Base) -> None:
    learner, friend = (learner_of(tiny_base, "a", seed) for seed in (0, 1))
    learner.train(2)
    friend.train(2)
    own = learner.own()
    told = learner.admit(friend.encode("fp32"), "fp32")
    assert isinstance(told, LoraUpdate)

    done = learner.collaborate({PeerId("peer 1"): told})

    assert done.accepted
    merged = learner.personal()
    assert same(parts(merged, ".lora_B"), parts(own, ".lora_B"))
    for name, t in parts(merged, ".lora_A").items():
        torch.testing.assert_close(t, (own.tensors[name] + friend.own().tensors[name]) / 2)
    whole = learner_of(tiny_base, "both", 1)
    refused = learner.admit(whole.encode("fp32"), "fp32")
    assert isinstance(refused, Refusal)


@partly
def test_trained_in_one_pass_is_trained_one_by_one(
    tiny_base: Base, sharing: Sharing, random_split: Callable[..., TokenSplit]
) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2, sharing=sharing))

    def trainers() -> list[GradientTrainer]:
        options = TrainingOptions(batch_size=2, context=16, lr=5e-3)
        return [AdamW().trainer(adapted, random_split(seed), structs.replace(options, seed=seed)) for seed in (1, 2)]

    together, alone = trainers(), trainers()
    reports = train_together(together, 3)
    for trainer, told, other in zip(together, reports, alone, strict=True):
        wanted = other.run(3)
        assert [r.gradient_norm for r in told] == pytest.approx([r.gradient_norm for r in wanted], rel=1e-3)
        for name, tensor in trainer.adapter.tensors.items():
            torch.testing.assert_close(tensor, other.adapter.tensors[name], atol=2e-4, rtol=1e-3)


@pytest.fixture
def random_split() -> Callable[..., TokenSplit]:
    return lambda seed: corpus(seed).train


def test_sharing_b_alone_needs_one_start_for_all() -> None:
    with pytest.raises(OptionError, match="one start for all"):
        AdapterChoice(sharing="b", shared_start=False)
