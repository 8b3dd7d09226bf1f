"""Folders of models with the shapes of well-known ones and random weights: what they take can be measured without them.

Memory and speed follow from shapes alone. Tensors are drawn and written one after the other, so that making a model
takes the memory of its largest tensor. The tokenizer is that of the embedded model, whose ids any of them knows.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch

from p2pfinetune import nano

GIB: Final = 2**30
TOKENIZER: Final = ("tokenizer.json", "tokenizer_config.json")
STORED: Final = {"fp32": ("F32", torch.float32), "bf16": ("BF16", torch.bfloat16)}

_QWEN: Final[dict[str, Any]] = {"model_type": "qwen2", "vocab_size": 151_936, "num_key_value_heads": 2}
_LLAMA: Final[dict[str, Any]] = {"model_type": "llama", "vocab_size": 49_152, "tie_word_embeddings": True}
SHAPES: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "gpt2-124m": {"model_type": "gpt2", "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        "smollm2-135m": _LLAMA
        | {
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
        },
        "smollm2-362m": _LLAMA
        | {
            "hidden_size": 960,
            "intermediate_size": 2560,
            "num_hidden_layers": 32,
            "num_attention_heads": 15,
            "num_key_value_heads": 5,
        },
        "qwen2.5-0.5b": _QWEN
        | {
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "tie_word_embeddings": True,
        },
        "qwen2.5-1.5b": _QWEN
        | {
            "hidden_size": 1536,
            "intermediate_size": 8960,
            "num_hidden_layers": 28,
            "num_attention_heads": 12,
            "tie_word_embeddings": True,
        },
        "qwen2.5-3b": _QWEN
        | {
            "hidden_size": 2048,
            "intermediate_size": 11_008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "tie_word_embeddings": True,
        },
        "llama3.1-8b": {
            "model_type": "llama",
            "vocab_size": 128_256,
            "hidden_size": 4096,
            "intermediate_size": 14_336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "tie_word_embeddings": False,
        },
    }
)
"""Fields of config.json, after the models' own on the hub; what is not here is the family's default."""


def random_model(folder: Path, shape: str, stored: str = "fp32") -> Path:
    """The folder of such a model; the same each time, and left as it is if it is there."""
    place = folder / f"{shape}-{stored}"
    if (place / "whole").is_file():
        return place
    place.mkdir(parents=True, exist_ok=True)
    config = _config(shape)
    config.save_pretrained(place)
    for name in TOKENIZER:
        shutil.copyfile(nano.folder() / name, place / name)
    _write(place / "model.safetensors", tensors_of(config), stored)
    (place / "whole").touch()
    return place


def tensors_of(config: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what a checkpoint of this configuration stores; nothing is allocated."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}  # tied ones once


def _config(shape: str) -> Any:
    from transformers import AutoConfig

    fields = dict(SHAPES[shape])
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


def _write(path: Path, shapes: Mapping[str, tuple[int, ...]], stored: str) -> None:
    word, dtype = STORED[stored]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in shapes.items():
        end = place + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": word, "shape": list(shape), "data_offsets": [place, end]}
        place = end
    written = json.dumps(header).encode()
    dice = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        for shape in shapes.values():
            file.write(_drawn(shape, dtype, dice).view(torch.uint8).numpy().data)


def _drawn(shape: tuple[int, ...], dtype: torch.dtype, dice: torch.Generator) -> torch.Tensor:
    """A matrix of small numbers; of vectors, which scale or shift, ones."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=dtype)
    return torch.empty(shape, dtype=dtype).normal_(0.0, 0.02, generator=dice)
