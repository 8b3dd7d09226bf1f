"""Standard PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, which any tool of that world loads.

The folder holds the whole adapter (seeded start included), so that no tool needs to know about peers, and the tokenizer
that it was trained with. It says nothing of this machine: a base that is no hub's is named, with its digest, and not by
its path. The scale is written as peft computes it, alpha / rank, with the network's rank: a device of a lower one pads.

An import refuses kinds of LoRA that an `Adapter` cannot express (DoRA, rsLoRA, biases, ranks that differ by layer):
read as plain LoRA they would load and compute something else. Nothing is written to folders that hold a model:
libraries would take the two for one.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from p2pfinetune.errors import ModelError, OptionError
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.base import model_file
from p2pfinetune.options import AdapterSpec
from p2pfinetune.system.durable import sync_folder, write_whole

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOKENIZER_CONFIG = "tokenizer_config.json"
OF_THIS_MACHINE = frozenset({"name_or_path", "is_local", "local_files_only", "vocab_file", "merges_file"})
PREFIX = "base_model.model."
SUFFIX = ".weight"
PRIVATE_FOLDER = 0o700
MUST_BE_UNSET = (
    "alpha_pattern", "alora_invocation_tokens", "bias", "exclude_modules", "layer_replication", "lora_bias",
    "modules_to_save", "rank_pattern", "target_parameters", "trainable_token_indices", "use_dora", "use_rslora",
)  # fmt: skip


def export_folder(
    folder: Path,
    adapter: Adapter,
    spec: AdapterSpec,
    base_name: str,
    targets: Sequence[str],
    *,
    is_transposed: bool = False,
    beside: Mapping[str, bytes] = MappingProxyType({}),
) -> list[Path]:
    """Write the folder and return its files. `is_transposed` is `AdaptedModel.is_transposed` (GPT-2's Conv1D).

    `base_name` is what others know the base by (`base.public_name`), `beside` are further files by name. A new folder
    appears whole or not at all; in one that exists each file is replaced whole. What is written is its owner's alone:
    an adapter betrays something of the text it was trained on. ModelError if a model lies in the folder.
    """
    from safetensors.torch import save

    if found := model_file(folder):
        raise ModelError(
            f"{folder} holds a model ({found})", "an adapter beside it would spoil it: name another folder"
        )

    weights = {f"{PREFIX}{name}{SUFFIX}": tensor.clone() for name, tensor in adapter.tensors.items()}
    config = json.dumps(_config(spec, base_name, targets, is_transposed=is_transposed), indent=2, sort_keys=True)
    contents = {**beside, WEIGHTS: save(weights, metadata={"format": "pt"}), CONFIG: f"{config}\n".encode()}
    if folder.is_dir():
        for name, content in contents.items():
            write_whole(folder / name, content)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        whole = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        whole.mkdir(mode=PRIVATE_FOLDER)
        try:
            for name, content in contents.items():
                write_whole(whole / name, content)
            whole.rename(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(whole, ignore_errors=True)
    return [folder / CONFIG, folder / WEIGHTS, *(folder / name for name in sorted(beside))]


def tokenizer_files(tokenizer: Any) -> dict[str, bytes]:
    """What `AutoTokenizer.from_pretrained` needs, by name; without the path that it was loaded from."""
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer.save_pretrained(scratch)
        found = {file.name: file.read_bytes() for file in Path(scratch).rglob("*") if file.is_file()}
    if (told := found.get(TOKENIZER_CONFIG)) is not None:
        config = {key: value for key, value in json.loads(told).items() if key not in OF_THIS_MACHINE}
        found[TOKENIZER_CONFIG] = f"{json.dumps(config, indent=2, sort_keys=True)}\n".encode()
    return found


def import_folder(folder: Path) -> tuple[AdapterSpec, Adapter]:
    """The adapter of a PEFT folder; the spec's targets are full module paths. ModelError says what does not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_bytes())
        stored = load_file(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        needs = f"it needs {CONFIG} and {WEIGHTS}"
        raise ModelError(f"{folder} is not a readable PEFT folder: {error}", needs) from error
    _must_be_plain(folder, config)
    tensors = {}
    for key, tensor in stored.items():
        name = key.removeprefix(PREFIX).removesuffix(SUFFIX)
        if f"{PREFIX}{name}{SUFFIX}" != key or not name.endswith((".lora_A", ".lora_B")):
            raise ModelError(f"{folder} holds {key}, which is no LoRA factor of a linear layer")
        tensors[name] = tensor.float()
    try:
        adapter = Adapter(tensors)
        paths = tuple(path for path, _, _ in adapter.pairs())
        spec = AdapterSpec(
            rank=int(config["r"]), alpha=_alpha(config), targets=paths, dropout=float(config.get("lora_dropout", 0.0))
        )
    except (ValueError, KeyError, TypeError, OverflowError, OptionError) as error:
        raise ModelError(f"{folder} is damaged: {error}") from error
    if any(a.shape[0] != spec.rank for _, a, _ in adapter.pairs()):
        raise ModelError(f"{folder}: the factors do not have the rank {spec.rank} of {CONFIG}")
    return spec, adapter


def _config(spec: AdapterSpec, base_name: str, targets: Sequence[str], *, is_transposed: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": sorted(targets),
        "fan_in_fan_out": is_transposed,
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _must_be_plain(folder: Path, config: Any) -> None:
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{folder} is not a LoRA adapter", "only LoRA adapters can be imported")
    if odd := [key for key in MUST_BE_UNSET if config.get(key) not in (None, False, "none", {}, [])]:
        raise ModelError(f"{folder} uses {odd[0]}, which cannot be imported", "import a plain LoRA adapter")


def _alpha(config: dict[str, Any]) -> int:
    if (alpha := config["lora_alpha"]) != int(alpha):
        raise ValueError(f"lora_alpha is {alpha}, not a whole number")
    return int(alpha)
