"""Standard PEFT folders: `adapter_config.json` and `adapter_model.safetensors`, which any tool of that world loads.

The folder holds the whole adapter (seeded start included), so that no tool needs to know about peers. Refuses kinds of
LoRA that an `Adapter` cannot express (DoRA, rsLoRA, biases, ranks that differ by layer).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pfinetune.adapter import Adapter, AdapterSpec
from p2pfinetune.errors import ModelError, OptionError
from p2pfinetune.models import resolve_model

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
SUFFIX = ".weight"
PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
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
) -> list[Path]:
    """Write the folder and return its files. `is_transposed` is `AdaptedModel.is_transposed` (GPT-2's Conv1D).

    A new folder appears whole or not at all; in one that exists each of the two files is replaced whole. What is
    written is its owner's alone: an adapter betrays something of the text it was trained on.
    """
    from safetensors.torch import save

    weights = {f"{PREFIX}{name}{SUFFIX}": tensor.clone() for name, tensor in adapter.tensors.items()}
    config = json.dumps(_config(spec, base_name, targets, is_transposed=is_transposed), indent=2, sort_keys=True)
    contents = {WEIGHTS: save(weights, metadata={"format": "pt"}), CONFIG: f"{config}\n".encode()}
    if folder.is_dir():
        for name, content in contents.items():
            fresh = folder / f".{name}.{os.getpid()}.part"
            try:
                _write_durably(fresh, content)
                fresh.replace(folder / name)
            finally:
                fresh.unlink(missing_ok=True)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
        whole = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        whole.mkdir(mode=PRIVATE_FOLDER)
        try:
            for name, content in contents.items():
                _write_durably(whole / name, content)
            whole.rename(folder)
        finally:
            shutil.rmtree(whole, ignore_errors=True)
    return [folder / CONFIG, folder / WEIGHTS]


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
        "base_model_name_or_path": resolve_model(base_name),
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


def _write_durably(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
