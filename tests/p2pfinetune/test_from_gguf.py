"""A GGUF file is a base model like any other: by what it holds, wherever it lies, once, and wholly or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune.errors import ModelError
from p2pfinetune.model import from_gguf, gguf_conversion
from p2pfinetune.model.base import load_base, public_name
from p2pfinetune.model.gguf_header import GgufHeader
from tests.support import gguf_files


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; conversions run in this process, which has torch already."""
    monkeypatch.setenv("PEERD_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(from_gguf, "_run", run_here)
    return tmp_path / "models" / "gguf"


def run_here(file: Path, header: GgufHeader, folder: Path, tell: Callable[[str], None]) -> None:
    gguf_conversion.convert(file, folder, from_gguf.stored_as(header), lambda progress: tell(progress.step))


def broken(*_: Any) -> None:
    raise ModelError("the conversion ended", "again")


def test_a_gguf_in_32_bits_is_the_very_model_that_it_was_made_of(tmp_path: Path) -> None:
    gguf_files.llama().save_pretrained(tmp_path / "folder")
    base = load_base(str(gguf_files.write_llama(tmp_path / "tiny.gguf")), device="cpu")
    original = gguf_files.llama().eval()
    ids = torch.arange(20).unsqueeze(0)

    assert torch.equal(base.model(ids).logits, original(ids).logits)
    assert (
        base.tokenizer.apply_chat_template([{"role": "user", "content": "water"}], tokenize=False) == "[user] water\n"
    )


def test_one_file_under_two_names_is_converted_once_and_is_one_model_with_one_name(tmp_path: Path, cache: Path) -> None:
    here, there = gguf_files.write_llama(tmp_path / "a.gguf"), tmp_path / "my private name.gguf"
    there.write_bytes(here.read_bytes())
    told: list[str] = []
    first = from_gguf.converted(here, told.append)
    one, other = load_base(str(here), device="cpu"), load_base(str(there), device="cpu")

    assert from_gguf.converted(there, told.append) == first
    assert [line.split()[0] for line in told].count("converting") == 1
    assert (one.tensors_digest, one.tokenizer_digest) == (other.tensors_digest, other.tokenizer_digest)
    assert public_name(one) == public_name(other) == f"Tiny Llama sha256:{one.tensors_digest[:16]}"
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [first.name]


def test_a_conversion_that_fails_or_is_killed_leaves_nothing_that_could_be_taken_for_a_model(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = gguf_files.write_llama(tmp_path / "a.gguf")
    monkeypatch.setattr(from_gguf, "_run", broken)
    with pytest.raises(ModelError, match="ended"):
        from_gguf.converted(file)
    folders = [path.name for path in cache.iterdir() if path.is_dir()]
    monkeypatch.setattr(from_gguf, "_run", run_here)
    whole = from_gguf.converted(file)
    (cache / f".{whole.name}.dead.part").mkdir()
    (whole / "model.safetensors").write_bytes(b"half")

    assert folders == []
    assert from_gguf.converted(file) == whole
    assert from_gguf.is_whole(whole)
    assert [path.name for path in cache.iterdir() if path.is_dir()] == [whole.name]


def test_of_two_that_want_the_same_file_one_converts_and_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, done = gguf_files.write_llama(tmp_path / "a.gguf"), []
    other = threading.Thread(target=lambda: done.append(from_gguf.converted(file, told.append)))
    told: list[str] = []

    def slow(*given: Any) -> None:
        other.start()
        while not any("waiting" in line for line in told):
            other.join(0.01)
        run_here(*given)

    monkeypatch.setattr(from_gguf, "_run", slow)
    assert from_gguf.converted(file) == (other.join(10.0) or done)[0]
    assert told == ["waiting: another process is converting this file"]


def test_a_conversion_that_has_no_room_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = gguf_files.write_llama(tmp_path / "a.gguf")
    monkeypatch.setattr(from_gguf, "SPARE_BYTES", 1 << 62)
    with pytest.raises(ModelError, match="has room for") as caught:
        from_gguf.converted(file)
    assert "PEERD_MODELS" in caught.value.hint
    monkeypatch.setattr(from_gguf, "SPARE_BYTES", 0)
    monkeypatch.setattr(from_gguf, "LIBRARIES_BYTES", 1 << 62)
    with pytest.raises(ModelError, match="of memory"):
        from_gguf.converted(file)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"general__architecture": "perceiver"}, "architecture 'perceiver'"),
        ({"tokenizer__ggml__pre": "klingon"}, "splits text is not known to transformers: 'klingon'"),
        ({"llama__block_count": 1 << 31}, "2,147,483,648 layers"),
        ({"llama__feed_forward_length": 1 << 28}, "its facts describe"),
        ({"llama__block_count": 2}, "its facts describe"),
        ({"llama__block_count": (1 << 32) - 1}, "claims 4,294,967,295 layers, and has room for"),
        ({"llama__attention__head_count": 0}, "its facts describe no model"),
        ({"split__count": 3}, "one part of several"),
        ({"tokenizer__ggml__tokens": None}, "no tokenizer"),
    ],
)
def test_a_gguf_that_cannot_be_used_is_refused_by_name_with_the_cause_and_what_to_do(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    file = gguf_files.write_llama(tmp_path / "a.gguf", **changed)
    with pytest.raises(ModelError, match=said) as caught:
        from_gguf.converted(file)
    assert caught.value.hint


def test_a_file_that_is_no_gguf_and_a_folder_of_ggufs_are_told_apart_from_models(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")
    gguf_files.write_llama(tmp_path / "some.gguf")
    for name, said in ((tmp_path / "notes.txt", "no GGUF"), (tmp_path / "gone.gguf", "no model folder or file")):
        with pytest.raises(ModelError, match=said):
            load_base(str(name))
    with pytest.raises(ModelError, match="holds GGUF files") as caught:
        load_base(str(tmp_path))
    assert str(tmp_path / "some.gguf") in caught.value.hint
