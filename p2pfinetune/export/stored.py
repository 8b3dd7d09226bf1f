"""A base's tensors as they are stored, read one by one; and the adapter's products, found by the names in those files.

The files are the base's own safetensors: what is exported is what was stored, whatever precision this machine loaded it
in. A header that is not what the format says is refused, since a merged file takes it over byte by byte.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch import Tensor

from p2pfinetune.errors import ExportError, ModelError
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.base import Base
from p2pfinetune.model.fingerprints import headers, weight_files
from p2pfinetune.model.targets import is_transposed, kind_of
from p2pfinetune.options import AdapterSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Exportable:
    """What is exported: an adapter of the network's rank, and the base that it was trained on."""

    base: Base
    adapter: Adapter
    spec: AdapterSpec
    """Its `scale` is what the product BA is multiplied by."""

    @property
    def kind(self) -> str:
        """The family, as transformers calls it."""
        return kind_of(self.base.model)

    @cached_property
    def skeleton(self) -> PreTrainedModel:
        """The model without numbers: its layers as they are stored, however this machine holds them."""
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(self.base.model.config)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with torch.device("meta"):
            found: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        return found

    @cached_property
    def is_transposed(self) -> bool:
        """As `AdaptedModel.is_transposed`."""
        return is_transposed(self.skeleton, [path for path, _, _ in self.adapter.pairs()])


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One tensor of a file: where its bytes lie behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def float_type(self) -> torch.dtype:
        """Of its numbers. ExportError for such as no adapter can be added to."""
        if self.dtype not in FLOATS:
            raise ExportError(
                f"the base stores {self.name} as {self.dtype}, to which nothing can be added",
                "export the adapter alone (--format peft or gguf-lora), or train on a base that is not quantised",
            )
        return FLOATS[self.dtype]

    def tensor(self, content: bytes) -> Tensor:
        """Of its bytes."""
        return torch.frombuffer(bytearray(content), dtype=self.float_type).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A safetensors file: its header as bytes, and its tensors in the order in which they lie."""

    path: Path
    head: bytes
    entries: tuple[StoredEntry, ...]

    @property
    def size_bytes(self) -> int:
        return len(self.head) + max((entry.end for entry in self.entries), default=0)

    def content(self, opened: IO[bytes], entry: StoredEntry) -> bytes:
        """The bytes of one tensor, from the file as it is open. ModelError if it ends early."""
        opened.seek(len(self.head) + entry.begin)
        found = opened.read(entry.end - entry.begin)
        if len(found) != entry.end - entry.begin:
            raise _damaged(self.path, "it ends early")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """What an adapter adds to one stored weight: scale B A, (out, in), or its transpose."""

    path: str
    a: Tensor
    b: Tensor
    scale: float
    is_transposed: bool

    def added_to(self, weight: Tensor) -> Tensor:
        """In fp32, rounded once to the numbers of the weight."""
        delta = self.scale * (self.b @ self.a)
        return (weight.float() + (delta.T if self.is_transposed else delta)).to(weight.dtype)


def stored_files(folder: Path) -> list[StoredFile]:
    """All files of a base's weights. ModelError if one is damaged."""
    return [_read(path) for path in weight_files(folder)]


def products(trained: Exportable, files: Sequence[StoredFile]) -> Mapping[str, Product]:
    """By the name of the stored tensor. ExportError if the base does not store one of the adapted layers as one."""
    shapes = {entry.name: entry.shape for file in files for entry in file.entries}
    model, found = trained.skeleton, {}
    for path, a, b in trained.adapter.pairs():
        name = next((name for name in _names(model, path) if name in shapes), "")
        turned = is_transposed(model, [path])
        if not name or shapes[name] != ((a.shape[1], b.shape[0]) if turned else (b.shape[0], a.shape[1])):
            raise ExportError(
                f"this {trained.kind} model does not store {path} as a weight of its own",
                "export the adapter alone: --format peft",
            )
        found[name] = Product(path, a, b, trained.spec.scale, turned)
    return found


def _names(model: Any, path: str) -> tuple[str, ...]:
    """A checkpoint may leave out the prefix that its model has with a head."""
    return f"{path}.weight", f"{path.removeprefix(f'{model.base_model_prefix}.')}.weight"


def _read(path: Path) -> StoredFile:
    found = sorted(headers(path), key=lambda header: (header.begin, header.size))
    if any(before.begin + before.size != after.begin for before, after in pairwise(found)):
        raise _damaged(path, "its tensors do not lie one behind another")
    try:
        with path.open("rb") as file:
            head = file.read(found[0].begin if found else path.stat().st_size)
    except OSError as error:
        raise _damaged(path, str(error)) from error
    begins = [header.begin - len(head) for header in found]
    entries = (
        StoredEntry(header.name, str(header.dtype), header.shape, begin, begin + header.size)
        for header, begin in zip(found, begins, strict=True)
    )
    return StoredFile(path, head, tuple(entries))


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is not a readable safetensors file: {why}", "fetch the model again")
