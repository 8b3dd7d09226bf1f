"""Targets, the seeded start, moving values in and out of a live model, and the network digest."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from msgspec import structs
from torch import nn

from p2pfinetune.errors import ModelError, OptionError
from p2pfinetune.model.adapter import (
    AdaptedModel,
    Adapter,
    attach,
    disabled,
    initial_adapter,
    network_digest,
    read,
    resolve_targets,
    write,
)
from p2pfinetune.model.base import Base
from p2pfinetune.model.targets import linear_layers
from p2pfinetune.options import AdapterSpec

SPEC = AdapterSpec(rank=4, alpha=8)
Bases = Callable[[str], Base]
EXPECTED = {
    "llama": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
    "gpt_neox": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "phi": {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"},
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "bloom": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
}
EXPECTED |= dict.fromkeys(("mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"), EXPECTED["llama"])

PINNED = {
    "a": ["0x1.4a57d00000000p-5", "-0x1.64239e0000000p-2", "0x1.7882100000000p-3"],
    "b": [
        "0x1.1f63b80000000p-3",
        "-0x1.e9861c0000000p-3",
        "-0x1.128b060000000p-4",
        "-0x1.0c472a0000000p-2",
        "0x1.db4c7a0000000p-4",
    ],
}


@pytest.fixture(scope="module")
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, SPEC)


def shifted(adapter: Adapter, seed: int = 0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter({n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in adapter.tensors.items()})


def tokens() -> torch.Tensor:
    return torch.arange(20).reshape(2, 10)


@pytest.mark.parametrize("family", EXPECTED)
def test_attention_and_mlp_are_adapted_and_the_head_is_not(base_of: Bases, family: str) -> None:
    base = base_of(family)
    before = base.model(tokens()).logits

    live = attach(base, SPEC)

    assert {path.rsplit(".", 1)[-1] for path in live.targets} == EXPECTED[family]
    assert list(live.targets) == sorted(live.targets)
    assert torch.equal(live.model(tokens()).logits, before)  # B is zero
    write(live, shifted(live.initial))
    assert not torch.allclose(live.model(tokens()).logits, before, atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_layer_adds_alpha_over_rank_times_the_product(base_of: Bases, family: str) -> None:
    live = attach(base_of(family), SPEC)
    write(live, shifted(live.initial))
    path, a, b = next(shifted(live.initial).pairs())
    x = torch.randn((3, a.shape[1]), generator=torch.Generator().manual_seed(1))

    added = live.model.get_submodule(path)(x) - base_of(family).model.get_submodule(path)(x)

    assert torch.allclose(added, (8 / 4) * x @ a.T @ b.T, atol=1e-5)


def test_named_targets_are_endings_of_paths(tiny_base: Base) -> None:
    assert resolve_targets(tiny_base.model, AdapterSpec(targets=("q_proj", "0.mlp.up_proj"))) == (
        "model.layers.0.mlp.up_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
    )


def test_an_unknown_target_is_an_error_that_lists_those_there_are(tiny_base: Base) -> None:
    with pytest.raises(ModelError, match="no linear layer 'c_attn'") as caught:
        resolve_targets(tiny_base.model, AdapterSpec(targets=("q_proj", "c_attn")))
    assert "q_proj" in caught.value.hint
    assert "down_proj" in caught.value.hint


def test_a_layer_that_only_ends_like_a_target_is_left_alone(tiny_base: Base) -> None:
    live = attach(tiny_base, AdapterSpec(targets=("model.layers.0.self_attn.q_proj",)))

    assert live.targets == ("model.layers.0.self_attn.q_proj",)
    assert len(live.parameters) == 2


def test_a_picture_tower_is_no_target() -> None:
    model = nn.ModuleDict({"vision_tower": nn.ModuleDict({"q_proj": nn.Linear(2, 2)}), "q_proj": nn.Linear(2, 2)})
    model.config = SimpleNamespace(model_type="gemma3")  # type: ignore[assignment]

    assert resolve_targets(model, AdapterSpec()) == ("q_proj",)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"rank": 5000}, {"alpha": 0}, {"dropout": 1.0}, {"sharing": "c"}])
def test_a_spec_out_of_range_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        AdapterSpec(**wrong)  # type: ignore[arg-type]


def test_the_start_has_uniform_a_within_one_over_root_of_in_and_zero_b() -> None:
    start = initial_adapter({"m.q": (400, 30)}, AdapterSpec(rank=50))
    a, b = start.tensors["m.q.lora_A"], start.tensors["m.q.lora_B"]

    assert a.abs().max() <= 1 / 20
    assert a.abs().max() > 0.99 / 20
    assert abs(float(a.mean())) < 0.001
    assert float(a.std()) == pytest.approx(1 / 20 / 3**0.5, rel=0.02)
    assert not b.any()
    assert b.shape == (30, 50)


def test_the_start_is_pinned_to_the_bit() -> None:
    """Were this to change, peers of different versions would no longer find one another."""
    start = initial_adapter({"b": (5, 2), "a": (3, 2)}, AdapterSpec(rank=1, init_seed=7))

    assert [value.hex() for value in start.tensors["a.lora_A"].flatten().tolist()] == PINNED["a"]
    assert [value.hex() for value in start.tensors["b.lora_A"].flatten().tolist()] == PINNED["b"]


def test_the_start_depends_on_the_seed_alone(tiny_base: Base, adapted: AdaptedModel) -> None:
    torch.manual_seed(123)
    again = attach(tiny_base, SPEC)
    state = torch.random.get_rng_state()
    other = attach(tiny_base, structs.replace(SPEC, init_seed=1))

    assert again.initial.equals(adapted.initial)
    assert not other.initial.equals(adapted.initial)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_start_is_what_the_live_model_holds(tiny_base: Base) -> None:
    live = attach(tiny_base, SPEC)

    assert read(live).equals(live.initial)
    assert live.schema["model.layers.0.mlp.down_proj.lora_A"] == (4, 48)
    assert live.schema["model.layers.0.mlp.down_proj.lora_B"] == (32, 4)


def test_what_is_written_is_read_back_through_the_same_parameters(tiny_base: Base) -> None:
    live, wanted = attach(tiny_base, SPEC), shifted(attach(tiny_base, SPEC).initial)
    before = dict(live.parameters)

    write(live, wanted)

    assert read(live).equals(wanted)
    assert all(before[name] is parameter for name, parameter in live.parameters.items())


def test_a_copy_that_was_read_does_not_move_with_the_model(tiny_base: Base) -> None:
    live = attach(tiny_base, SPEC)
    copy = read(live)

    write(live, shifted(copy))

    assert copy.equals(live.initial)


def test_an_adapter_that_does_not_fit_is_not_written(adapted: AdaptedModel) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        write(adapted, initial_adapter({"m.q": (4, 4)}, SPEC))


def test_the_base_is_untouched_and_shared(tiny_base: Base) -> None:
    before = tiny_base.model(tokens()).logits
    one, other = attach(tiny_base, SPEC), attach(tiny_base, SPEC)

    write(one, shifted(one.initial))

    assert torch.equal(tiny_base.model(tokens()).logits, before)
    assert torch.equal(other.model(tokens()).logits, before)
    live_layer, base_layer = (m.get_submodule("model.layers.0.mlp.up_proj") for m in (one.model, tiny_base.model))
    assert live_layer.base_layer.weight is base_layer.weight  # type: ignore[union-attr]


def test_only_the_factors_train(adapted: AdaptedModel) -> None:
    trainable = {id(p) for p in adapted.model.parameters() if p.requires_grad}

    assert trainable == {id(p) for p in adapted.parameters.values()}


def test_the_model_without_its_adapter_is_the_base(tiny_base: Base) -> None:
    live = attach(tiny_base, SPEC)
    write(live, shifted(live.initial))
    with_adapter = live.model(tokens()).logits

    with disabled(live) as plain:
        with disabled(live):
            pass
        assert torch.equal(plain(tokens()).logits, tiny_base.model(tokens()).logits)
    assert torch.equal(live.model(tokens()).logits, with_adapter)
    assert all(p.requires_grad for p in live.parameters.values())


def test_the_adapter_comes_back_when_the_work_without_it_fails(adapted: AdaptedModel) -> None:
    write(adapted, shifted(adapted.initial))
    before = adapted.model(tokens()).logits

    with pytest.raises(KeyError), disabled(adapted):
        raise KeyError

    assert torch.equal(adapted.model(tokens()).logits, before)
    write(adapted, adapted.initial)


def test_dropout_acts_in_training_and_never_in_evaluation(tiny_base: Base) -> None:
    live = attach(tiny_base, structs.replace(SPEC, dropout=0.5))
    write(live, shifted(live.initial))

    assert torch.equal(live.model(tokens()).logits, live.model(tokens()).logits)
    live.model.train()
    assert not torch.equal(live.model(tokens()).logits, live.model(tokens()).logits)


def test_adapters_add_and_subtract(adapted: AdaptedModel) -> None:
    start, other = adapted.initial, shifted(adapted.initial)

    assert torch.allclose(start.plus(other.minus(start)).vector(), other.vector(), atol=1e-6)
    assert other.minus(start).norm() == pytest.approx(float((other.vector() - start.vector()).norm()), rel=1e-5)


@pytest.mark.parametrize(
    "tensors",
    [
        {"m.lora_A": torch.zeros(2, 3)},
        {"m.lora_A": torch.zeros(2, 3), "m.lora_B": torch.zeros(4, 1)},
        {"m.lora_A": torch.zeros(2, 3).double(), "m.lora_B": torch.zeros(4, 2)},
        {"m.weight": torch.zeros(2, 3)},
        {"m.lora_A": torch.zeros(2), "m.lora_B": torch.zeros(4, 2)},
    ],
    ids=["one factor", "two ranks", "fp64", "another name", "no matrix"],
)
def test_an_adapter_with_odd_tensors_cannot_be_made(tensors: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"m|lora"):
        Adapter(tensors)


def digest(base: Base, live: AdaptedModel, group: str = "lab", **changes: object) -> str:
    spec = structs.replace(live.spec, **changes)  # type: ignore[arg-type]
    return network_digest(base, spec, live.targets, live.initial, group)


def test_what_looks_like_a_linear_layer_is_one_only_if_it_computes_as_one() -> None:
    class Router(nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
            return super().forward(x), x

    class Scaled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2.0 * super().forward(x)

    class InTwoSteps(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.weight.T + self.bias

    model = nn.ModuleDict({kind.__name__: kind(3, 2) for kind in (Router, Scaled, InTwoSteps, nn.Linear)})
    model.config = SimpleNamespace(model_type="of mine")  # type: ignore[assignment]

    assert set(linear_layers(model)) == {"InTwoSteps", "Linear"}  # type: ignore[arg-type]


def test_name_dropout_and_compute_dtype_are_no_part_of_the_network(tiny_base: Base, adapted: AdaptedModel) -> None:
    known = digest(tiny_base, adapted)
    moved = dataclasses.replace(tiny_base, name="another/name", device=torch.device("meta"))
    bf16 = dataclasses.replace(
        tiny_base, model=copy.deepcopy(tiny_base.model).bfloat16()
    )  # the base is shared by tests

    assert digest(moved, adapted) == known
    assert digest(tiny_base, adapted, dropout=0.3) == known
    assert digest(tiny_base, attach(tiny_base, structs.replace(SPEC, dropout=0.3))) == known
    assert network_digest(bf16, SPEC, tuple(reversed(adapted.targets)), adapted.initial, "lab") == known


def test_all_that_peers_must_agree_on_is_part_of_the_network(tiny_base: Base, adapted: AdaptedModel) -> None:
    reseeded = attach(tiny_base, structs.replace(SPEC, init_seed=1))
    other_sharing = SimpleNamespace(rank=4, alpha=8, sharing="a-only")
    digests = [
        digest(tiny_base, adapted),
        digest(tiny_base, adapted, group="another"),
        digest(tiny_base, adapted, rank=8),
        digest(tiny_base, adapted, alpha=9),
        digest(dataclasses.replace(tiny_base, tensors_digest="0" * 64), adapted),
        digest(dataclasses.replace(tiny_base, tokenizer_digest="0" * 64), adapted),
        digest(dataclasses.replace(tiny_base, config_digest="0" * 64), adapted),
        digest(tiny_base, reseeded),
        network_digest(tiny_base, SPEC, adapted.targets[1:], adapted.initial, "lab"),
        network_digest(tiny_base, other_sharing, adapted.targets, adapted.initial, "lab"),  # type: ignore[arg-type]
    ]

    assert len(set(digests)) == len(digests)
    assert all(len(d) == 64 for d in digests)
