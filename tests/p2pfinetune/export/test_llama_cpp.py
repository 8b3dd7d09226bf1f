"""What is exported for llama.cpp, run in llama.cpp: the same numbers as in transformers, on every family and a real model.

llama.cpp keeps keys and values in 16 bits unless it is told otherwise, and looks GELU up in a table of 16-bit numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from p2pfinetune.export.gguf_families import FAMILIES
from p2pfinetune.export.gguf_model import write_model
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.writing import untold, write_export
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, read, write
from p2pfinetune.model.base import load_base
from p2pfinetune.model.generate import continuation
from p2pfinetune.options import AdapterSpec
from tests.support.models import random_model, tiny_tokenizer

pytestmark = pytest.mark.slow
llama_cpp = pytest.importorskip(
    "xllamacpp", reason="xllamacpp IS NOT INSTALLED, so no export was tried in llama.cpp; run: pip install xllamacpp"
)

SHAPE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip
SMALL = {**SHAPE, "num_attention_heads": 2, "num_key_value_heads": 2}
WINDOWS = {**SMALL, "num_hidden_layers": 6, "sliding_window": 8, "query_pre_attn_scalar": 16}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
STRETCHED = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
TRIED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**SHAPE, "tie_word_embeddings": True}),
    "llama with biases and stretched positions": (
        "llama", {**SHAPE, "attention_bias": True, "mlp_bias": True, "rope_parameters": STRETCHED},
    ),
    "llama with linear positions": (
        "llama", {**SHAPE, "rope_parameters": {"rope_type": "linear", "rope_theta": 5e4, "factor": 4.0}},
    ),
    "mistral": ("mistral", {**SHAPE, "sliding_window": None}),
    "qwen2": ("qwen2", {**SHAPE, "hidden_size": 64}),
    "qwen3": ("qwen3", SHAPE),
    "gemma": ("gemma", SHAPE),
    "gemma2": ("gemma2", WINDOWS),
    "gemma3_text": ("gemma3_text", WINDOWS),
    "phi": ("phi", SMALL),
    "phi3": ("phi3", {**SMALL, "pad_token_id": 0}),
    "gpt2": ("gpt2", GPT),
    "gpt_neox": ("gpt_neox", SMALL),
}  # fmt: skip
IDS = [5, 17, 99, 200, 33, 250, 7, 81, 120, 64, 3, 9, 77, 12, 300, 180]
SPEC = AdapterSpec(rank=4, alpha=12)


@contextmanager
def running(model: Path, adapter: Path | None = None, context: int = 256) -> Iterator[Any]:
    """llama.cpp's own server in this process, on one thread and in fp32."""
    params = llama_cpp.CommonParams()
    params.model.path = str(model)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.warmup, params.fit_params = context, 1, 0, False, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = llama_cpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter is not None:
        params.lora_adapters = [llama_cpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    yield llama_cpp.Server(params)


def answer(server: Any, prompt: Any, **asked: Any) -> dict[str, Any]:
    found = server.handle_completions({"prompt": prompt, "temperature": 0.0, "cache_prompt": False, **asked})
    said: dict[str, Any] = json.loads(found) if isinstance(found, (str, bytes)) else found
    choice: dict[str, Any] = said["choices"][0]
    return choice


def furthest_off(server: Any, model: Any) -> float:
    """The largest difference of a log-probability, behind the first beginning of IDS that does not end the text."""
    for length in range(len(IDS), 8, -1):
        told = answer(server, IDS[:length], n_predict=1, n_probs=320)["logprobs"]
        if told is not None:
            with torch.inference_mode():
                expected = model(input_ids=torch.tensor([IDS[:length]])).logits[0, -1].log_softmax(-1)
            tops = told["content"][0]["top_logprobs"]
            assert len(tops) > 300
            return max(abs(float(expected[top["id"]]) - top["logprob"]) for top in tops)
    raise AssertionError("everything ends the text")


def shaken(family: str, shape: dict[str, Any]) -> Any:
    """Random weights whose every tensor matters: norms and biases too, and attention that looks somewhere."""
    model = random_model(family, 320, **shape)
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=dice))
            if any(part in name for part in ("q_proj", "k_proj", "query_key_value", "qkv_proj", "c_attn")):
                parameter.mul_(8.0)
    return model


def learnt(folder: Path, size: float, spec: AdapterSpec = SPEC) -> tuple[Exportable, AdaptedModel]:
    base = load_base(str(folder), device="cpu")
    live, dice = attach(base, spec), torch.Generator().manual_seed(0)
    adapter = Adapter({n: t + size * torch.randn(t.shape, generator=dice) for n, t in read(live).tensors.items()})
    write(live, adapter)
    return Exportable(base, adapter, spec), live


def without(trained: Exportable) -> Exportable:
    """The base alone."""
    none = Adapter({n: 0.0 * t if n.endswith("_B") else t for n, t in trained.adapter.tensors.items()})
    return replace(trained, adapter=none)


def test_every_family_is_tried() -> None:
    assert {family for family, _ in TRIED.values()} == set(FAMILIES)


@pytest.mark.parametrize("tried", list(TRIED))
def test_llama_cpp_computes_what_transformers_does(tried: str, tmp_path: Path) -> None:
    family, shape = TRIED[tried]
    shaken(family, shape).save_pretrained(tmp_path / "model")
    tiny_tokenizer(["the quick brown fox", "def add(a, b):\n    return a + b\n"], 320).save_pretrained(
        tmp_path / "model"
    )
    trained, live = learnt(tmp_path / "model", 0.1)
    (base,) = write_export(without(trained), tmp_path / "base", "gguf")
    (adapter,) = write_export(trained, tmp_path / "adapter", "gguf-lora")
    (whole,) = write_export(trained, tmp_path / "whole", "gguf")
    close = 3e-3 if family in {"gemma", "gemma2", "gemma3_text", "phi", "gpt2", "gpt_neox"} else 1e-5

    with running(base) as server:
        assert furthest_off(server, trained.base.model) < close
        assert furthest_off(server, live.model) > 10 * close
    with running(base, adapter) as server:
        assert furthest_off(server, live.model) < close
    with running(whole) as server:
        assert furthest_off(server, live.model) < close


PROMPT = "Dear all,\nthe meeting of 3 March 2024 is at"


@pytest.fixture(scope="module")
def changed(smollm2: Path) -> tuple[Exportable, AdaptedModel]:
    """SmolLM2 with an adapter that visibly changes what it says."""
    return learnt(smollm2, 0.012, AdapterSpec(rank=8, alpha=16))


def said(trained: Exportable, model: Any, prompt: str = PROMPT) -> str:
    return continuation(trained.base, model, prompt, max_tokens=24, temperature=0.0, seed=0)


def test_smollm2_says_the_same_in_llama_cpp(changed: tuple[Exportable, AdaptedModel], tmp_path: Path) -> None:
    trained, live = changed
    for name, what in (("base", without(trained)), ("whole", trained)):
        (tmp_path / name).mkdir()
        write_model(what, tmp_path / name, untold, matrices=torch.float32)
    (adapter,) = write_export(trained, tmp_path / "adapter", "gguf-lora")
    expected = said(trained, live.model)

    with running(tmp_path / "base/model.gguf") as server:
        assert answer(server, PROMPT, max_tokens=24)["text"] == said(trained, trained.base.model) != expected
    with running(tmp_path / "base/model.gguf", adapter) as server:
        assert answer(server, PROMPT, max_tokens=24)["text"] == expected
    with running(tmp_path / "whole/model.gguf") as server:
        assert answer(server, PROMPT, max_tokens=24)["text"] == expected


def test_smollm2_merged_gives_the_logits_of_base_and_adapter(
    changed: tuple[Exportable, AdaptedModel], tmp_path: Path
) -> None:
    trained, live = changed
    write_export(trained, tmp_path / "out", "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    tokens = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "out")(PROMPT)["input_ids"]])
    with torch.inference_mode():
        expected, found = live.model(tokens).logits.softmax(-1), merged(tokens).logits.softmax(-1)
        base = trained.base.model(tokens).logits.softmax(-1)

    assert (found - expected).abs().max() < 0.1 * (base - expected).abs().max()  # rounded once, to bf16


def test_a_tokenizer_cuts_words_in_llama_cpp_as_it_did_in_training(
    changed: tuple[Exportable, AdaptedModel], tmp_path: Path
) -> None:
    trained, _ = changed
    write_model(without(trained), tmp_path, untold)
    text = "It's 12,345.67 at  three   o'clock\n\n\tdéjà vu — 你好 🙂 don't WE'LL x=y+1;"
    expected = trained.base.tokenizer(text)["input_ids"]
    fields = GGUFReader(tmp_path / "model.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"  # of the GGUF file that the base was made of

    with running(tmp_path / "model.gguf") as server:
        by_ids, by_text = (
            answer(server, prompt, max_tokens=1, logprobs=5)["logprobs"]["content"][0]["top_logprobs"]
            for prompt in (expected, text)
        )
    assert by_ids == by_text
