"""GGUF files as llama.cpp's own reader has them; that llama.cpp computes the same is in test_llama_cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from gguf import MODEL_ARCH_NAMES, GGUFReader
from safetensors.torch import load_file

from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_families import FAMILIES, Names, family_of, gathered, interleaved
from p2pfinetune.export.gguf_keys import frequencies, write_keys
from p2pfinetune.export.gguf_source import source_keys
from p2pfinetune.export.gguf_tokenizer import LLAMA_3, QWEN_2, cuts_of
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.writing import write_export
from p2pfinetune.model.base import Base
from p2pfinetune.model.from_gguf import RECORD, Converted
from tests.p2pfinetune.export.conftest import learnt
from tests.support.models import tiny_tokenizer

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BARE_BYTES = {**BYTES, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}


def split(regex: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": False}


def tensors_of(file: Path) -> dict[str, torch.Tensor]:
    return {t.name: torch.tensor(t.data.copy()) for t in GGUFReader(file).tensors}


def keys_of(file: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(file).fields.items()}


def rotated(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Slow and obvious: place 2i of a head is its row i, place 2i + 1 its row i + half."""
    rows, size = [], len(weight) // heads
    for head in range(heads):
        for i in range(size // 2):
            rows += [weight[head * size + i], weight[head * size + i + size // 2]]
    return torch.stack(rows)


def test_rows_of_heads_are_laid_as_llama_cpp_has_them() -> None:
    weight = torch.arange(24.0).reshape(24, 1)

    assert torch.equal(weight[interleaved(3, 24)], rotated(weight, 3))
    q, k, v = (torch.cat([weight[12 * head + 4 * part :][:4] for head in range(2)]) for part in range(3))
    assert torch.equal(weight[gathered(2, 24)], torch.cat([q, k, v]))


def test_an_adapter_for_llama_cpp_has_its_names_shapes_and_rows(base_of: Callable[[str], Base], tmp_path: Path) -> None:
    trained, _ = learnt(base_of("llama"))
    (file,) = write_export(trained, tmp_path / "out", "gguf-lora")
    found, keys = tensors_of(file), keys_of(file)

    assert (keys["general.type"], keys["adapter.type"], keys["general.architecture"]) == ("adapter", "lora", "llama")
    assert keys["adapter.lora.alpha"] == 12.0
    assert not any(name.startswith("tokenizer") for name in keys)
    adapter = trained.adapter.tensors
    layer = "model.layers.1"
    names = {"self_attn.q_proj": "attn_q", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate"}
    assert len(found) == len(adapter)
    for path, name in names.items():
        assert torch.equal(found[f"blk.1.{name}.weight.lora_a"], adapter[f"{layer}.{path}.lora_A"])
    q, k, v = (adapter[f"{layer}.self_attn.{name}_proj.lora_B"] for name in "qkv")
    assert torch.equal(found["blk.1.attn_q.weight.lora_b"], rotated(q, 2))
    assert torch.equal(found["blk.1.attn_k.weight.lora_b"], rotated(k, 1))
    assert torch.equal(found["blk.1.attn_v.weight.lora_b"], v)


def test_a_whole_model_is_the_base_and_the_product_in_llama_cpps_places(
    base_of: Callable[[str], Base], tmp_path: Path
) -> None:
    trained, _ = learnt(base_of("llama"))
    told: list[tuple[int, int]] = []
    (file,) = write_export(trained, tmp_path / "out", "gguf", progress=lambda *now: told.append(now))
    found, keys, stored = tensors_of(file), keys_of(file), load_file(trained.base.folder / "model.safetensors")

    path = "model.layers.0.self_attn.q_proj"
    a, b = (trained.adapter.tensors[f"{path}.lora_{factor}"] for factor in "AB")
    assert torch.allclose(found["blk.0.attn_q.weight"], rotated(stored[f"{path}.weight"] + 3.0 * b @ a, 2))
    assert torch.equal(found["token_embd.weight"], stored["model.embed_tokens.weight"])
    assert torch.equal(found["output_norm.weight"], stored["model.norm.weight"])
    assert "output.weight" not in found  # tied, as llama.cpp takes it
    assert told[-1] == (len(found), len(found))
    expected = {"block_count": 2, "embedding_length": 32, "attention.head_count": 2, "attention.head_count_kv": 1,
                "context_length": 64, "feed_forward_length": 48, "rope.dimension_count": 16, "vocab_size": 320}  # fmt: skip
    assert {name: keys[f"llama.{name}"] for name in expected} == expected
    vocabulary = trained.base.tokenizer.get_vocab()
    assert {keys["tokenizer.ggml.tokens"][i]: i for i in vocabulary.values()} == vocabulary
    assert keys["tokenizer.ggml.pre"] == "gpt-2"
    assert keys["tokenizer.ggml.add_bos_token"] is False
    assert keys["tokenizer.ggml.token_type"][0] == 3  # a control token


def test_families_that_store_otherwise_are_turned_shifted_and_gathered(
    base_of: Callable[[str], Base], tmp_path: Path
) -> None:
    def written(family: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        base = base_of(family)
        (file,) = write_export(learnt(base)[0], tmp_path / family, "gguf")
        return tensors_of(file), load_file(base.folder / "model.safetensors")

    gpt2, stored = written("gpt2")
    name = next(name for name in stored if name.endswith("wpe.weight"))
    assert gpt2["blk.0.attn_qkv.weight"].shape == (96, 32)
    assert torch.equal(gpt2["position_embd.weight"], stored[name])
    neox, stored = written("gpt_neox")
    bias = stored["gpt_neox.layers.0.attention.query_key_value.bias"]
    assert torch.equal(neox["blk.0.attn_qkv.bias"], bias[gathered(2, 96)])
    assert torch.equal(neox["output.weight"], stored["embed_out.weight"])
    gemma, stored = written("gemma")
    assert torch.equal(gemma["output_norm.weight"], stored["model.norm.weight"] + 1.0)


@pytest.mark.parametrize("form", ["gguf", "gguf-lora"])
def test_a_family_that_is_not_known_is_refused_by_its_name(
    trained: Callable[[str], Exportable], tmp_path: Path, form: Any
) -> None:
    with pytest.raises(ExportError, match="bloom models are not written as GGUF") as told:
        write_export(trained("bloom"), tmp_path / "out", form)

    assert "known are: gemma, gemma2" in told.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_llama_cpp_has_no_place_for_is_refused_by_its_path(tiny_base: Base) -> None:
    names = Names(family_of("llama"), tiny_base.model.config)

    assert names.of("model.layers.1.mlp.up_proj") == "blk.1.ffn_up"
    with pytest.raises(ExportError, match=r"no tensor for model\.layers\.2\.mlp\.up_proj"):
        names.of("model.layers.2.mlp.up_proj")


class Deaf:
    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}}, "scaled by yarn"),
        ("qwen2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "scaled by linear"),
        (
            "gemma3_text",
            {"layer_types": ["full_attention", "full_attention"]},
            "which layers of this gemma3_text model",
        ),
        ("gemma2", {"query_pre_attn_scalar": 99}, "scales its attention"),
    ],
)
def test_what_llama_cpp_has_no_key_for_is_refused(
    base_of: Callable[[str], Base], family: str, change: dict[str, Any], said: str
) -> None:
    config = type(base_of(family).model.config)(**{**base_of(family).model.config.to_dict(), **change})

    with pytest.raises(ExportError, match=said):
        write_keys(Deaf(), family, config)


def test_scaled_positions_of_a_llama_are_a_factor_for_each_frequency(tiny_base: Base) -> None:
    model = type(tiny_base.model)(tiny_base.model.config)
    assert frequencies(model, "llama") == {}
    model.config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq / 4

    assert torch.allclose(frequencies(model, "llama")["rope_freqs.weight"], torch.full((8,), 4.0))
    assert frequencies(model, "qwen2") == {}


@pytest.mark.parametrize(
    ("steps", "whole_words", "name"),
    [
        ([BYTES], False, "gpt-2"),
        ([DIGITS, BYTES], False, "smollm"),
        ([split(QWEN_2), BARE_BYTES], False, "qwen2"),
        ([split(LLAMA_3), BARE_BYTES], True, "llama-bpe"),
        ([split(LLAMA_3), BARE_BYTES], False, "dbrx"),
    ],
)
def test_a_tokenizer_is_known_by_its_own_rules(steps: list[Any], whole_words: bool, name: str) -> None:
    one = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    model = {"type": "BPE", "byte_fallback": False, "ignore_merges": whole_words}

    assert cuts_of({"model": model, "pre_tokenizer": one, "normalizer": {"type": "NFC"}}) == name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"type": "BPE", "byte_fallback": True}}, "sentencepiece"),
        ({"model": {"type": "Unigram"}}, "sentencepiece"),
        ({"normalizer": {"type": "Lowercase"}}, "changes letters first .Lowercase"),
        ({"pre_tokenizer": None}, "cuts text by nothing"),
        ({"pre_tokenizer": {**BYTES, "add_prefix_space": True}}, "add_prefix_space"),
        ({"pre_tokenizer": split(QWEN_2, "Removed")}, "Removed"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split("x+"), BARE_BYTES]}}, r"by x\+, then by bytes"),
        ({"model": {"type": "BPE", "ignore_merges": True}}, "cuts text by GPT-2"),
    ],
)
def test_a_tokenizer_of_other_rules_is_refused_with_them(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said) as told:
        cuts_of({"model": {"type": "BPE"}, "pre_tokenizer": BYTES, "normalizer": None, **change})

    assert "gguf-lora" in told.value.hint


def test_a_base_made_of_a_gguf_is_written_with_the_keys_of_that_file(tiny_base: Base, tmp_path: Path) -> None:
    trained, _ = learnt(tiny_base)
    (source,) = write_export(trained, tmp_path / "source", "gguf")
    about = Converted(
        gguf=str(source), sha256="", title="", architecture="llama", licence="", numbers="F32", parameters=0, sizes={}
    )
    (tmp_path / RECORD).write_bytes(msgspec.json.encode(about))
    for file in tiny_base.folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    base = replace(tiny_base, folder=tmp_path)
    (again,) = write_export(Exportable(base, trained.adapter, trained.spec), tmp_path / "again", "gguf")
    told = {name: value for name, value in keys_of(source).items() if name.startswith(("tokenizer.", "llama."))}

    assert {key.name for key in source_keys(base, "llama")} == set(told)
    assert {name: keys_of(again)[name] for name in told} == told
    assert source_keys(base, "qwen2") == []
    assert source_keys(replace(base, tokenizer=tiny_tokenizer(["other words"], 290)), "llama") == []
    source.write_bytes(b"GGUF of something else by now")
    assert source_keys(base, "llama") == []
    source.unlink()
    assert source_keys(base, "llama") == []


def test_every_family_of_ours_is_one_of_llama_cpps() -> None:
    assert {family.architecture for family in FAMILIES.values()} <= set(MODEL_ARCH_NAMES.values())
