"""Files of named tensors."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from p2pfinetune.errors import CheckpointError
from p2pfinetune.training.checkpoint import load_groups, save_groups


def test_values_and_groups_come_back_to_the_bit(tmp_path: Path) -> None:
    tensor = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "file"

    save_groups(path, "learner", {"steps": 7, "loss": 0.1}, {"own": {"a/b": tensor}, "m": {"a/b": tensor.T}})
    values, groups = load_groups(path, "learner")

    assert values == {"steps": 7, "loss": 0.1}
    assert torch.equal(groups["own"]["a/b"], tensor)
    assert torch.equal(groups["m"]["a/b"], tensor.T)


def test_a_tensor_in_two_groups_is_written_once(tmp_path: Path) -> None:
    tensor = torch.zeros(1000)

    save_groups(tmp_path / "once", "learner", {}, {"own": {"a": tensor}})
    save_groups(tmp_path / "twice", "learner", {}, {"own": {"a": tensor}, "personal": {"a": tensor}})

    assert (tmp_path / "twice").stat().st_size < (tmp_path / "once").stat().st_size + 200
    assert torch.equal(load_groups(tmp_path / "twice", "learner")[1]["personal"]["a"], tensor)


def test_files_that_do_not_fit_are_named_with_what_to_do(tmp_path: Path) -> None:
    good, newer, foreign, damaged = (tmp_path / name for name in ("good", "newer", "foreign", "damaged"))
    save_groups(good, "best", {}, {"best": {"a": torch.zeros(1)}})
    newer_meaning = {"version": 99, "kind": "learner", "values": {}, "aliases": {}}
    save_file({"x": torch.zeros(1)}, newer, metadata={"peerd": json.dumps(newer_meaning)})
    save_file({"x": torch.zeros(1)}, foreign)
    damaged.write_bytes(good.read_bytes()[:40])

    for path, complaint in (
        (good, "no learner file"),
        (newer, "format 99"),
        (foreign, "no learner file"),
        (damaged, "cannot be read"),
        (tmp_path / "absent", "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=complaint):
            load_groups(path, "learner")


@pytest.mark.parametrize(
    "meaning",
    [
        [],
        "[" * 9000,
        {"values": [], "aliases": {}},
        {"values": {}, "aliases": []},
        {"values": {}},
        {"aliases": {}},
        {"values": {}, "aliases": {"a/x": "nowhere"}},
        {"values": {}, "aliases": {"a/x": {}}},
    ],
    ids=lambda meaning: str(meaning)[:40],
)
def test_a_file_whose_meaning_is_damaged_is_named(tmp_path: Path, meaning: object) -> None:
    text = meaning if isinstance(meaning, str) else json.dumps(meaning)
    if isinstance(meaning, dict):
        text = json.dumps({"version": 1, "kind": "learner", **meaning})
    save_file({"a/y": torch.zeros(1)}, tmp_path / "file", metadata={"peerd": text})

    with pytest.raises(CheckpointError, match=str(tmp_path / "file")):
        load_groups(tmp_path / "file", "learner")
