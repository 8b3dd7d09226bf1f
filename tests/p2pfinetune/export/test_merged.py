"""Merged folders: the base's files with other numbers in them, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pfinetune.errors import ExportError, ModelError
from p2pfinetune.export import place
from p2pfinetune.export.card import card
from p2pfinetune.export.merged import size_bytes
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.writing import untold, write_export
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.fingerprints import tokenizer_digest
from tests.p2pfinetune.export.conftest import learnt

TOKENS = torch.arange(20).reshape(2, 10)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3"])
def test_a_merged_folder_answers_as_base_and_adapter_do(
    base_of: Callable[[str], Base], tmp_path: Path, family: str
) -> None:
    trained, live = learnt(base_of(family))

    files = write_export(trained, tmp_path / "out", "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()

    assert torch.allclose(loaded(TOKENS).logits, live.model(TOKENS).logits, atol=1e-5)
    assert not torch.allclose(loaded(TOKENS).logits, trained.base.model(TOKENS).logits, atol=1e-3)
    assert files == sorted(tmp_path / "out" / name for name in names_in(tmp_path / "out"))
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer_digest(again) == trained.base.tokenizer_digest
    assert [file.name for file in files if str(tmp_path).encode() in file.read_bytes()] == []
    assert load_base(str(tmp_path / "out"), device="cpu").config_digest == trained.base.config_digest


def test_shards_names_and_numbers_are_those_of_the_base(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "base", max_shard_size="20KB")
    AutoTokenizer.from_pretrained(tiny_folder("llama")).save_pretrained(tmp_path / "base")
    trained, _ = learnt(load_base(str(tmp_path / "base"), device="cpu"))
    told: list[tuple[int, int]] = []

    write_export(trained, tmp_path / "out", "merged", progress=lambda done, total: told.append((done, total)))

    weights = [name for name in names_in(tmp_path / "base") if name.endswith(".safetensors")]
    assert len(weights) > 1
    assert told[-1] == (size_bytes(trained), size_bytes(trained))
    for name in [*weights, "model.safetensors.index.json", "config.json"]:
        before, after = (tmp_path / "base" / name).read_bytes(), (tmp_path / "out" / name).read_bytes()
        assert len(before) == len(after), name
    changed = set()
    for name in weights:
        before, after = load_file(tmp_path / "base" / name), load_file(tmp_path / "out" / name)
        assert list(before) == list(after)
        changed |= {tensor for tensor in before if not torch.equal(before[tensor], after[tensor])}
        for path, a, b in trained.adapter.pairs():
            if (weight := before.get(f"{path}.weight")) is not None:
                slow = weight.float() + torch.stack([3.0 * (row @ a) for row in b])  # alpha 12, rank 4
                assert torch.allclose(after[f"{path}.weight"].float(), slow, rtol=2**-8)
                assert after[f"{path}.weight"].dtype == torch.bfloat16
    assert changed == {f"{path}.weight" for path, _, _ in trained.adapter.pairs()}


def test_an_interrupted_export_leaves_what_was_there_before(
    trained: Callable[[str], Exportable], tmp_path: Path
) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    killed = tmp_path / ".out.1.part"
    killed.mkdir()
    (killed / "model.safetensors").write_bytes(b"half")
    with pytest.raises(KeyboardInterrupt):
        write_export(trained("llama"), tmp_path / "out", "merged", progress=interrupt)

    assert names_in(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_is_written(
    trained: Callable[[str], Exportable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: SimpleNamespace(free=15_000_000))

    with pytest.raises(ExportError, match=r"has room for 0\.0 GB, and 0\.0 GB are needed") as told:
        write_export(trained("llama"), tmp_path / "out", "merged")

    assert "--format peft" in told.value.hint
    assert names_in(tmp_path) == []


def test_files_of_two_models_never_mix(trained: Callable[[str], Exportable], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "notes.txt").write_text("mine")
    write_export(trained("llama"), tmp_path / "here", "merged")  # whoever asks for it, has said so

    assert {"notes.txt", "model.safetensors"} <= set(names_in(tmp_path / "here"))
    for form in ("merged", "gguf", "gguf-lora"):
        with pytest.raises(ExportError, match="holds a model"):
            write_export(trained("gpt2"), tmp_path / "here", form)
    assert names_in(tmp_path) == ["here"]


def test_a_base_of_quantised_numbers_is_refused_by_the_tensor(tiny_base: Base, tmp_path: Path) -> None:
    trained, _ = learnt(tiny_base)
    tensors = load_file(tiny_base.folder / "model.safetensors")
    path = next(trained.adapter.pairs())[0]
    tensors[f"{path}.weight"] = tensors[f"{path}.weight"].to(torch.int8)
    save_file(tensors, tmp_path / "model.safetensors")

    with pytest.raises(ExportError, match=f"the base stores {path}.weight as I8"):
        write_export(
            Exportable(replace(tiny_base, folder=tmp_path), trained.adapter, trained.spec), tmp_path / "o", "merged"
        )

    assert names_in(tmp_path) == ["model.safetensors"]


def test_a_base_that_stores_layers_otherwise_is_refused_by_the_layer(tiny_base: Base, tmp_path: Path) -> None:
    trained, _ = learnt(tiny_base)
    path = next(trained.adapter.pairs())[0]
    tensors = load_file(tiny_base.folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if n != f"{path}.weight"}, tmp_path / "model.safetensors")

    with pytest.raises(ExportError, match=f"does not store {path} as a weight of its own"):
        write_export(
            Exportable(replace(tiny_base, folder=tmp_path), trained.adapter, trained.spec), tmp_path / "o", "merged"
        )


@pytest.mark.parametrize(
    "head",
    [
        b"\xff" * 8,
        (9).to_bytes(8, "little") + b'{"a": 1} ',
        (80).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'[:80],
    ],
    ids=["no length", "no entries", "half a header"],
)  # fmt: skip
def test_a_damaged_file_is_no_base(tiny_base: Base, tmp_path: Path, head: bytes) -> None:
    trained, _ = learnt(tiny_base)
    (tmp_path / "model.safetensors").write_bytes(head)

    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        write_export(
            Exportable(replace(tiny_base, folder=tmp_path), trained.adapter, trained.spec), tmp_path / "o", "merged"
        )


def test_the_card_says_what_it_is_and_names_a_hub_only_if_it_is_one(tiny_base: Base) -> None:
    trained, _ = learnt(tiny_base)
    paths = [path for path, _, _ in trained.adapter.pairs()]
    of_folder = card(trained, paths)
    of_hub = card(Exportable(replace(tiny_base, name="gpt2"), trained.adapter, trained.spec), paths)

    assert "base_model:" not in of_folder
    assert "base_model: gpt2\n" in of_hub
    assert f"W + (12 / 4) B A in {len(paths)} layers" in of_folder
    assert tiny_base.tensors_digest in of_folder
    untold(0, 0)


def test_a_peft_folder_is_what_it_was(trained: Callable[[str], Exportable], tmp_path: Path) -> None:
    files = write_export(trained("gpt2"), tmp_path / "out")

    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in files}
    assert json.loads(files[0].read_text())["fan_in_fan_out"] is True
    with pytest.raises(ExportError, match="Ollama"):
        write_export(trained("gpt2"), tmp_path / "other", modelfile=True)
