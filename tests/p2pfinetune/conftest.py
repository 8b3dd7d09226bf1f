"""Tiny random models of several families, made in code: no download, and no third-party weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune.model.base import Base, load_base
from tests.support.models import random_model, tiny_tokenizer

torch.set_num_threads(1)

VOCABULARY = 320
CONTEXT = 64
TEXT = ["the quick brown fox jumps over the lazy dog and the dog does not mind", "def add(a, b):\n    return a + b\n"]

LLAMA_LIKE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {**LLAMA_LIKE, "tie_word_embeddings": True},
    "mistral": {**LLAMA_LIKE, "sliding_window": None},
    "qwen2": LLAMA_LIKE,
    "qwen3": LLAMA_LIKE,
    "gemma": LLAMA_LIKE,
    "gemma2": LLAMA_LIKE,
    "gemma3_text": LLAMA_LIKE,
    "phi": {**LLAMA_LIKE, "num_key_value_heads": 2},
    "phi3": {**LLAMA_LIKE, "pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT},
    "gpt_neox": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": CONTEXT,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 2},  # stands for an architecture outside our table
}


@pytest.fixture(scope="session")
def families() -> tuple[str, ...]:
    return tuple(FAMILIES)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a family's name to a folder that holds a tiny random model of it and a tokenizer."""
    root, tokenizer = tmp_path_factory.mktemp("models"), tiny_tokenizer(TEXT, VOCABULARY)

    def make(family: str) -> Path:
        folder = root / family
        if not folder.exists():
            random_model(family, VOCABULARY, **FAMILIES[family]).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_base(tiny_folder: Callable[[str], Path]) -> Base:
    """A tiny random Llama with tied embeddings: 320 entries, context 64, two layers. Never changed by `attach`."""
    return load_base(str(tiny_folder("llama")), device="cpu")


@pytest.fixture(scope="session")
def base_of(tiny_folder: Callable[[str], Path]) -> Callable[[str], Base]:
    """A function from a family's name to a tiny random base of it."""
    loaded: dict[str, Base] = {}

    def load(family: str) -> Base:
        if family not in loaded:
            loaded[family] = load_base(str(tiny_folder(family)), device="cpu")
        return loaded[family]

    return load
