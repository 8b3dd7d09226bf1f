"""Loading base models, and the digests that say which they are."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import ModelError
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base, load_base, resolve_model
from p2pfinetune.model.fingerprints import config_digest, stored_tensors, tokenizer_digest
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.trainers.adamw import AdamW

Folders = Callable[[str], Path]


@pytest.fixture
def copy_of(tiny_folder: Folders, tmp_path: Path) -> Callable[[str], Path]:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(tiny_folder("llama"), tmp_path / name))

    return copy


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def digest(folder: Path) -> str:
    return load_base(str(folder), device="cpu").tensors_digest


def test_nano_is_the_embedded_folder_and_hub_names_stay_as_they_are(tmp_path: Path) -> None:
    assert Path(resolve_model("nano")).parts[-3:] == ("p2pfinetune", "nano", "model")
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert resolve_model("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"


@pytest.mark.parametrize("name", ["/no/such/folder", "../gone", "a/b/c", "", "two words", "~nobody-here/model"])
def test_a_name_that_is_neither_folder_nor_hub_name_is_an_error_with_advice(name: str) -> None:
    with pytest.raises(ModelError, match="no model folder") as caught:
        resolve_model(name)
    assert "nano" in caught.value.hint


def test_names_are_checked_without_torch() -> None:
    code = "import sys; from p2pfinetune.model.base import resolve_model; resolve_model('gpt2'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_base_is_frozen_in_fp32_and_evaluates(tiny_base: Base) -> None:
    assert not tiny_base.model.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in tiny_base.model.parameters())
    assert tiny_base.device.type == "cpu"
    assert tiny_base.max_context == 64
    assert tiny_base.tokenizer.decode(tiny_base.tokenizer("the dog")["input_ids"]) == "the dog"


def test_a_checkpoint_stored_in_bf16_is_held_so_and_computes_in_fp32_on_the_cpu(copy_of: Folders) -> None:
    folder = change(copy_of("half"), lambda t: t.update({n: v.bfloat16() for n, v in t.items()}))

    base = load_base(str(folder), device="cpu")

    assert {p.dtype for p in base.model.parameters() if p.ndim > 1} == {torch.bfloat16}
    assert {p.dtype for p in base.model.parameters() if p.ndim == 1} == {torch.float32}
    assert base.model(input_ids=torch.ones((1, 2), dtype=torch.int64)).logits.dtype == torch.float32
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["gpt2", "qwen2"])
def test_layers_that_are_held_in_16_bits_get_the_same_adapters_and_learn_the_same(
    tiny_folder: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    adapters = []
    for dtype in (torch.bfloat16, torch.float32):
        folder = tmp_path / str(dtype)
        shutil.copytree(tiny_folder(family), folder)
        change(folder, lambda t, dtype=dtype: t.update({n: v.bfloat16().to(dtype) for n, v in t.items()}))
        live = attach(load_base(str(folder), device="cpu"), AdapterSpec(rank=2))
        text = TokenSplit.of([np.arange(1, 60, dtype=np.uint16)])
        trainer = AdamW().trainer(live, text, TrainingOptions(batch_size=2, context=12))
        trainer.step()
        adapters.append(trainer.adapter)

    assert adapters[0].schema == adapters[1].schema
    assert adapters[0].equals(adapters[1])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells what is mapped")
def test_a_quantised_base_holds_on_to_no_part_of_the_file_that_it_came_from(copy_of: Folders) -> None:
    folder = copy_of("stored")
    for quantize, is_mapped in (("none", True), ("4bit", False)):
        base = load_base(str(folder), device="cpu", quantize=quantize)

        assert (str(folder) in Path("/proc/self/maps").read_text()) == is_mapped
        del base
        gc.collect()


def test_the_digest_is_that_of_the_content_and_not_of_the_place(tiny_base: Base, copy_of: Folders) -> None:
    elsewhere = load_base(str(copy_of("elsewhere")), device="cpu")

    assert elsewhere.tensors_digest == tiny_base.tensors_digest
    assert elsewhere.tokenizer_digest == tiny_base.tokenizer_digest


def test_a_checkpoint_in_shards_has_the_digest_of_the_whole(tiny_base: Base, copy_of: Folders) -> None:
    folder = copy_of("shards")
    (folder / "model.safetensors").unlink()
    tiny_base.model.save_pretrained(folder, max_shard_size="20KB")

    assert len(list(folder.glob("*.safetensors"))) > 1
    assert digest(folder) == tiny_base.tensors_digest


def test_tied_weights_stored_twice_have_the_digest_of_those_stored_once(tiny_base: Base, copy_of: Folders) -> None:
    def store_twice(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    folder = change(copy_of("twice"), store_twice)

    assert len(stored_tensors(folder)) == len(stored_tensors(Path(tiny_base.name))) + 1
    assert digest(folder) == tiny_base.tensors_digest


def test_names_without_the_prefix_of_the_base_model_have_the_same_digest(tiny_base: Base, copy_of: Folders) -> None:
    def drop_prefix(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    assert digest(change(copy_of("bare"), drop_prefix)) == tiny_base.tensors_digest


def test_one_changed_bit_changes_the_digest(tiny_base: Base, copy_of: Folders) -> None:
    def flip(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.norm.weight"].view(torch.int32)[0] ^= 1

    assert digest(change(copy_of("bit"), flip)) != tiny_base.tensors_digest


def test_the_stored_dtype_is_part_of_the_digest(copy_of: Folders) -> None:
    half = change(copy_of("half"), lambda t: t.update({n: v.bfloat16() for n, v in t.items()}))
    full = change(copy_of("full"), lambda t: t.update({n: v.bfloat16().float() for n, v in t.items()}))

    assert digest(half) != digest(full)


def test_another_tokenizer_has_another_digest(tiny_base: Base, copy_of: Folders) -> None:
    folder = copy_of("tokens")
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["merges"].pop()
    path.write_text(json.dumps(content))

    assert load_base(str(folder), device="cpu").tokenizer_digest != tiny_base.tokenizer_digest


def edited(folder: Path, file: str, **changes: object) -> Path:
    """Fields of a JSON file changed; None: taken out."""
    content = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"rms_norm_eps": 1e-5},
        {"hidden_act": "gelu"},
        {"max_position_embeddings": 128},
    ],
    ids=str,
)
def test_what_the_configuration_changes_of_the_function_is_part_of_the_digest(
    tiny_base: Base, copy_of: Folders, changes: dict[str, object]
) -> None:
    base = load_base(str(edited(copy_of("other"), "config.json", **changes)), device="cpu")

    assert base.tensors_digest == tiny_base.tensors_digest
    assert base.config_digest != tiny_base.config_digest


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": None, "hidden_act": None, "rope_parameters": None, "initializer_range": None},
        {"rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": False},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000}},
        {"dtype": "bfloat16", "transformers_version": "5.0.0", "architectures": ["Other"], "_name_or_path": "/home/me"},
        {"attention_dropout": 0.1, "use_cache": False, "eos_token_id": 7, "unsloth_fixed": True},
    ],
    ids=["defaults left out", "defaults spelled out", "a number spelled otherwise", "bookkeeping", "of training alone"],
)
def test_what_it_says_of_the_same_function_is_not(
    tiny_base: Base, copy_of: Folders, changes: dict[str, object]
) -> None:
    base = load_base(str(edited(copy_of("same"), "config.json", **changes)), device="cpu")

    assert base.config_digest == tiny_base.config_digest


def test_a_field_that_a_later_library_knows_is_no_part_while_it_is_at_its_default() -> None:
    class Later(LlamaConfig):
        later = 3

        def to_dict(self) -> dict[str, object]:
            return {**super().to_dict(), "later": self.later}

    changed = Later(hidden_size=64)
    changed.later = 4

    assert config_digest(Later(hidden_size=64)) == config_digest(LlamaConfig(hidden_size=64))
    assert config_digest(changed) != config_digest(Later(hidden_size=64))


@pytest.mark.parametrize("name", ["eos_token", "bos_token"])
def test_another_special_token_is_another_tokenizer(tiny_base: Base, copy_of: Folders, name: str) -> None:
    base = load_base(str(edited(copy_of("ends"), "tokenizer_config.json", **{name: "the"})), device="cpu")

    assert base.tokenizer_digest != tiny_base.tokenizer_digest


def test_the_tokenizer_digest_does_not_move_with_its_use(tiny_folder: Folders, tiny_base: Base) -> None:
    tokenizer = load_base(str(tiny_folder("llama")), device="cpu").tokenizer
    tokenizer("some words here", truncation=True, max_length=2)
    tokenizer.backend_tokenizer.enable_padding(length=9)

    assert tokenizer_digest(tokenizer) == tiny_base.tokenizer_digest


def test_a_digest_is_taken_once_and_again_when_the_file_changes(copy_of: Folders, tmp_path: Path) -> None:
    folder, cache = copy_of("kept"), tmp_path / "cache"
    first = stored_tensors(folder, cache)
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace("model.norm.weight", "a.mark.of.ours"))

    remembered = stored_tensors(folder, cache)
    change(folder, lambda t: t["model.norm.weight"].mul_(2.0))
    changed = stored_tensors(folder, cache)

    assert "a.mark.of.ours" in {t.name for t in remembered}
    assert changed != first
    assert {t.name for t in changed} == {t.name for t in first}


def test_a_cache_that_vanishes_or_cannot_be_written_costs_time_alone(copy_of: Folders, tmp_path: Path) -> None:
    folder, cache = copy_of("kept"), tmp_path / "cache"
    first = stored_tensors(folder, cache)
    shutil.rmtree(cache)

    assert stored_tensors(folder, cache) == first
    assert stored_tensors(folder, folder / "model.safetensors" / "in the way") == first


def test_a_damaged_cache_is_no_cache(copy_of: Folders, tmp_path: Path) -> None:
    folder, cache = copy_of("kept"), tmp_path / "cache"
    first = stored_tensors(folder, cache)
    (kept,) = cache.iterdir()
    kept.write_bytes(b"[[1")

    assert stored_tensors(folder, cache) == first


def test_a_folder_without_safetensors_is_an_error_with_advice(copy_of: Folders) -> None:
    folder = copy_of("pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(ModelError, match=r"holds no model\.safetensors") as caught:
        load_base(str(folder))
    assert "save_pretrained" in caught.value.hint


def test_a_truncated_checkpoint_is_an_error(copy_of: Folders) -> None:
    weights = copy_of("short") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_base(str(weights.parent))


def test_a_checkpoint_that_lacks_a_tensor_is_not_filled_with_random_numbers(copy_of: Folders) -> None:
    folder = change(copy_of("lacking"), lambda t: t.pop("model.norm.weight"))  # type: ignore[arg-type,return-value]

    with pytest.raises(ModelError, match=r"does not fit its config.json: model.norm.weight"):
        load_base(str(folder), device="cpu")


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json"])
def test_a_folder_without_config_or_tokenizer_is_an_error(copy_of: Folders, lost: str) -> None:
    folder = copy_of("lost")
    (folder / lost).unlink()

    with pytest.raises(ModelError, match="cannot be loaded"):
        load_base(str(folder), device="cpu")


@pytest.mark.parametrize(("kept", "what"), [(True, "an adapter beside its model"), (False, "an adapter and no model")])
def test_a_model_folder_with_an_adapter_in_it_is_refused_by_name(copy_of: Folders, kept: bool, what: str) -> None:
    folder = copy_of("both")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}')
    if not kept:
        (folder / "config.json").unlink()

    with pytest.raises(ModelError, match=what) as caught:
        load_base(str(folder), device="cpu")
    assert "adapter_config.json" in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("content", "package"),
    [(b"\x0a\x0e\x0a\x05<unk>", "sentencepiece"), (b"IQ== 0\nIg== 1\n", "tiktoken")],
    ids=["sentencepiece", "tiktoken"],
)
def test_a_tokenizer_that_has_to_be_converted_is_refused_with_what_to_install(
    copy_of: Folders, content: bytes, package: str
) -> None:
    folder = copy_of("old")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (folder / "tokenizer.model").write_bytes(content)

    with pytest.raises(ModelError, match=rf"stored as tokenizer\.model alone, .* {package} ") as caught:
        load_base(str(folder), device="cpu")
    assert f"pip install {package}" in caught.value.hint.replace("'", "")


def test_an_unknown_device_is_an_error_with_advice(tiny_folder: Folders) -> None:
    with pytest.raises(ModelError, match="no device") as caught:
        load_base(str(tiny_folder("llama")), device="abacus")
    assert "cpu" in caught.value.hint


def test_a_hub_name_that_cannot_be_fetched_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ModelError, match="Hugging Face hub") as caught:
        load_base("somebody/no-such-model")
    assert "nano" in caught.value.hint
