"""Named groups of tensors and a few plain values in one safetensors file. Never a pickle, and nothing is run on load.

A tensor that stands in several groups (own and personal adapter are often the same) is written once, and named by an
alias in the others; after loading they are one tensor again, as before.

The header's metadata has one entry: {version, kind, values, aliases} as JSON. A file of a newer version is refused by
name and not read as far as it goes. What the groups mean is their writer's to say; see `round.saved`.
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
    meaning, tensors = _read(path, kind)
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


def load_values(path: Path, kind: str) -> dict[str, Any]:
    """The values alone. CheckpointError as for `load_groups`."""
    meaning, _ = _read(path, kind, with_tensors=False)
    try:
        return _object(meaning["values"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is not complete: {error}") from error


def _read(path: Path, kind: str, *, with_tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            meaning = _object(json.loads((file.metadata() or {}).get(KEY, "{}")))
            keys = file.keys() if with_tensors else ()  # not a mapping
            tensors = {key: file.get_tensor(key) for key in keys}
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", "remove it to start from the last good one") from error
    if meaning.get("kind") != kind:
        raise CheckpointError(f"{path} is no {kind} file of peerd")
    if meaning.get("version") != VERSION:
        found = meaning.get("version")
        raise CheckpointError(f"{path} has format {found}, this program reads {VERSION}", "use a newer peerd")
    return meaning, tensors


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__} where an object should stand")  # noqa: TRY004  # of the file
    return value
