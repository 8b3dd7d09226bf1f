"""Adapters by name in what a learner saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import DEFAULT_ADAPTER, TWIN_ADAPTER, Digest
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.saved import HeldAdapter, LearnerState, load_state, save_state
from p2pfinetune.training.checkpoint import load_groups, load_values, save_groups
from p2pfinetune.training.trainer import TrainerState

NETWORK = Digest("0" * 64)
SPEC = AdapterSpec(rank=2)


def adapter(value: float, rank: int = 2) -> Adapter:
    return Adapter({"m.lora_A": torch.full((rank, 3), value), "m.lora_B": torch.full((4, rank), -value)})


def held(value: float, spec: AdapterSpec = SPEC) -> HeldAdapter:
    return HeldAdapter(spec, TrainerState(adapter(value, spec.held_rank), 5, counts={"moment_steps": 0}))


def saved(path: Path, **adapters: HeldAdapter) -> Path:
    state = LearnerState(
        adapters=adapters, own=adapter(1.0), personal=adapter(2.0), has_twin=True, is_alone=False,
        twin_best=adapter(3.0), best_local=0.5,
    )  # fmt: skip
    save_state(path, NETWORK, "text", state)
    return path


def test_adapters_come_back_by_name_each_with_its_own_spec(tmp_path: Path) -> None:
    other = AdapterSpec(rank=8, alpha=4, own_rank=2, sharing="a", targets=("m",))
    path = saved(tmp_path / "x", default=held(1.0), twin=held(2.0), poems=held(3.0, other))

    found, _ = load_state(path, NETWORK, SPEC, with_twin=True)

    assert {name: one.spec for name, one in found.adapters.items()} == {"default": SPEC, "twin": SPEC, "poems": other}
    for name, value in (("default", 1.0), ("twin", 2.0), ("poems", 3.0)):
        assert found.adapters[name].state.adapter.equals(adapter(value))
        assert found.adapters[name].state.steps == 5
    assert TWIN_ADAPTER not in load_state(path, NETWORK, SPEC, with_twin=False)[0].adapters


def test_a_file_says_of_an_adapter_only_what_is_not_the_network_s_so_those_of_before_names_are_the_same(
    tmp_path: Path,
) -> None:
    values = load_values(saved(tmp_path / "x", default=held(1.0), twin=held(2.0)), "learner")

    assert values["trainer"] == values["twin"] == {"steps": 5, "moment_steps": 0}
    assert DEFAULT_ADAPTER not in values


@pytest.mark.parametrize(
    "spec", [{"rank": 0}, {"own_rank": 99}, {"nonsense": 1}, {"sharing": "c"}, [1], 3, {"rank": "many"}], ids=str
)
def test_a_spec_that_makes_no_sense_is_a_damaged_file(tmp_path: Path, spec: Any) -> None:
    path = saved(tmp_path / "x", default=held(1.0))
    values, groups = load_groups(path, "learner")
    save_groups(path, "learner", {**values, "trainer": {**values["trainer"], "spec": spec}}, groups)

    with pytest.raises(CheckpointError, match="is not complete"):
        load_state(path, NETWORK, SPEC, with_twin=False)


@pytest.mark.parametrize("name", ["trainer", "twin"])
def test_a_training_that_is_gone_is_a_damaged_file(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / "x", default=held(1.0), twin=held(2.0))
    values, groups = load_groups(path, "learner")
    save_groups(path, "learner", {key: value for key, value in values.items() if key != name}, groups)

    with pytest.raises(CheckpointError, match="is not complete"):
        load_state(path, NETWORK, SPEC, with_twin=True)
