"""What a model will take, computed before it is loaded: against counted tensors, and sums that must hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune import nano
from p2pfinetune.batched.stack import AdapterStack, rows_of
from p2pfinetune.errors import ModelError
from p2pfinetune.model import memory
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.model.compute import training_precision
from p2pfinetune.model.fingerprints import Header
from p2pfinetune.model.memory import MemoryPlan, Setting, needed
from p2pfinetune.model.shape import Shape, shape_from, shape_of
from p2pfinetune.model.targets import find_targets
from p2pfinetune.names import Digest
from p2pfinetune.options import AdapterSpec
from tests.support.models import random_model

SEQUENCES, CONTEXT, RANK = 2, 64, 2
GROUPED = {"hidden_size": 60, "intermediate_size": 200, "num_attention_heads": 6, "num_key_value_heads": 2}
FAMILIES = {
    "llama": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 10},
    "gemma2": {**GROUPED, "head_dim": 10},
    "gemma3_text": {**GROUPED, "head_dim": 10},
    "phi3": {**GROUPED, "pad_token_id": 0},
    "gpt2": {"n_embd": 60, "n_head": 6, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gpt_neox": {"hidden_size": 60, "intermediate_size": 200, "num_attention_heads": 6},
}


def made(family: str, layers: int) -> Any:
    name = "n_layer" if family == "gpt2" else "num_hidden_layers"
    return random_model(family, 100, **{**FAMILIES[family], name: layers})


def shape(model: Any) -> Shape:
    parameters = model.named_parameters()
    return shape_from(model.config.to_dict(), [Header(n, tuple(p.shape), "F32", 0, 0) for n, p in parameters])


def kept_bytes(model: Any, precision: Any) -> int:
    """Of all that autograd keeps of a training pass, weights and adapters aside."""
    nothing = Digest("")
    model.requires_grad_(False)
    base = Base("m", model.eval(), None, nothing, nothing, nothing, torch.device("cpu"), precision)  # type: ignore[arg-type]
    stack = AdapterStack(attach(base, AdapterSpec(rank=RANK)))
    rows = rows_of(stack.adapted.schema, [stack.adapted.initial.tensors])
    stack.use(rows, torch.zeros_like(rows))
    frozen = {p.untyped_storage().data_ptr() for p in stack.model.parameters()} | {rows.untyped_storage().data_ptr()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in frozen:
            kept[storage.data_ptr()] = storage
        return tensor

    ids = torch.randint(0, 50, (SEQUENCES, CONTEXT), generator=torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x), training_precision(base.device, precision):
        stack.returned(ids)
    return sum(storage.nbytes() for storage in kept.values())


QUICK = {("llama", "bf16"), ("gpt2", "fp32")}
EVERY = [
    pytest.param(family, precision, marks=() if (family, precision) in QUICK else pytest.mark.slow)
    for family in FAMILIES
    for precision in ("fp32", "bf16")
]


@pytest.mark.parametrize(("family", "precision"), EVERY)
def test_activations_of_a_layer_are_those_that_autograd_keeps(family, precision):
    one, two = made(family, 1), made(family, 2)
    setting = Setting(precision=precision, context=CONTEXT, sequences=SEQUENCES, rank=RANK)

    counted = kept_bytes(two, precision) - kept_bytes(one, precision)
    found = SEQUENCES * CONTEXT * memory.activations(shape(two), setting, MemoryPlan())

    assert 0.95 * counted <= found <= 1.3 * counted


def test_the_shape_of_the_embedded_model_is_read_from_its_headers():
    found = shape_of(nano.folder())

    assert found is not None
    assert (found.layers, found.width, found.inner, found.vocabulary, found.bytes_each) == (4, 224, 512, 4096, 2)
    assert found.parameters == 3_098_592
    assert found.of_adapter(8) == 8 * sum(rows + columns for rows, columns in found.adapted)
    assert memory.weights(found) == 2 * found.parameters


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_the_same_layers_get_an_adapter_by_their_stored_names_and_in_the_loaded_model(family):
    model = made(family, 2)

    chosen = [model.get_parameter(f"{path}.weight").numel() for path in find_targets(model)]

    assert sorted(rows * columns for rows, columns in shape(model).adapted) == sorted(chosen)


def test_of_a_configuration_that_names_no_widths_nothing_is_said(tmp_path: Path):
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).write_bytes((nano.folder() / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))

    assert shape_of(tmp_path) is None


def test_weights_that_are_not_there_are_an_error(tmp_path: Path):
    with pytest.raises(ModelError, match=r"holds no model\.safetensors"):
        shape_of(tmp_path)


def test_each_measure_makes_it_less_and_none_more():
    large, setting = shape(made("llama", 2)), Setting()

    def total(**plan: Any) -> int:
        return sum(memory.training(large, setting, MemoryPlan(**plan)).values())

    assert total() > total(positions=512) > total(positions=512, checkpointing=True)
    assert total() > total(checkpointing=True)
    assert memory.weights(large) > memory.weights(large, "8bit") > memory.weights(large, "4bit")


def test_a_pass_holds_one_sequence_at_the_least_and_no_more_than_a_step_has():
    setting = Setting(context=256, sequences=4)

    assert memory.positions_of(setting, MemoryPlan()) == 1024
    assert memory.positions_of(setting, MemoryPlan(positions=100)) == 256
    assert memory.positions_of(setting, MemoryPlan(positions=600)) == 512


def test_parts_are_those_of_the_stage_that_takes_most_and_make_up_the_total():
    found = shape(made("llama", 2))

    trained = needed(found, Setting(neighbours=0, sequences=64), MemoryPlan(positions=1 << 14))
    merged = needed(found, Setting(neighbours=1000), MemoryPlan(positions=256, checkpointing=True))

    assert (trained.stage, merged.stage) == ("training", "merging")
    assert "activations" in trained.parts
    assert merged.parts["neighbours"] > 0
    assert trained.total == sum(trained.parts.values())
    assert list(trained.parts.values()) == sorted(trained.parts.values(), reverse=True)
