"""Named groups of tensors and a few plain values in one safetensors file. Never a pickle, and nothing is run on load.

A tensor that stands in several groups (own and personal adapter are often the same) is written once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from p2pfinetune.errors import CheckpointError

VERSION = 1
KEY = "peerd"
BETWEEN = "/"  # never part of a group's name

Groups = Mapping[str, Mapping[str, Tensor]]


def save_groups(path: Path, kind: str, values: Mapping[str, Any], groups: Groups) -> None:
    """Write the file; `values` have to be JSON. Making it durable is the caller's business."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first_seen: dict[int, str] = {}
    for group, members in groups.items():
        for name, tensor in members.items():
            key = f"{group}{BETWEEN}{name}"
            if (original := first_seen.setdefault(id(tensor), key)) != key:
                aliases[key] = original
            else:
                tensors[key] = tensor.contiguous()
    meaning = {"version": VERSION, "kind": kind, "values": values, "aliases": aliases}
    save_file(tensors, path, metadata={KEY: json.dumps(meaning)})


def load_groups(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """Values and groups as saved. CheckpointError for a file that is missing, damaged, newer, or of another kind."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            meaning = _object(json.loads((file.metadata() or {}).get(KEY, "{}")))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "remove it to start from the last good one") from error
    if meaning.get("kind") != kind:
        raise CheckpointError(f"{path} is no {kind} file of peerd")
    if meaning.get("version") != VERSION:
        found = meaning.get("version")
        raise CheckpointError(f"{path} has format {found}, this program reads {VERSION}", "use a newer peerd")
    try:
        values, aliases = _object(meaning["values"]), _object(meaning["aliases"])
        tensors |= {key: tensors[original] for key, original in aliases.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        group, _, name = key.partition(BETWEEN)
        groups.setdefault(group, {})[name] = tensor
    return values, groups


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object should stand")  # noqa: TRY004  # of the file
    return value
