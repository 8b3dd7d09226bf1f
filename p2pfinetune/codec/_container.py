"""The safetensors container that all codecs here write, read as if a stranger had made it.

Length, header size, JSON, names, shapes, dtypes and offsets are checked against what is expected before the library
sees a byte, so nothing is allocated that the schema did not announce. Every fault is a `Refusal` with one of
`REASONS`; nothing raises because of what is in the blob.

Layout: 8 bytes little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, then the tensors without
gap or overlap (the format's own rules: github.com/huggingface/safetensors, README, "Format"). A `__metadata__` entry,
which the format allows, is refused like every name that the schema does not have: it would be room for anything.

The order of the checks is that of their cost: the length of the whole, the length of the header, its JSON, the names,
then shapes, dtypes and offsets. Values come last, since they are looked at after all of this has been found in order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2pfinetune.codec._base import Schema
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

REASONS = ("oversize", "malformed", "schema", "shape", "dtype", "not-finite")
LENGTH_BYTES = 8
ALIGNMENT = 8  # bytes; the library pads the header with spaces


@dataclass(frozen=True, slots=True)
class Part:
    """What a stored tensor must be: safetensors' name of its dtype, bytes an entry, shape."""

    dtype: str
    entry_bytes: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Of its data."""
        return self.entry_bytes * math.prod(self.shape)


Parts = Mapping[str, Part]


def write_blob(tensors: Mapping[str, Tensor]) -> bytes:
    """The tensors as safetensors bytes; the library orders them, so equal tensors give equal bytes."""
    from safetensors.torch import save

    must_be_finite(tensors)
    # the library refuses tensors that share memory, so each is copied
    return save({name: tensor.contiguous().clone() for name, tensor in tensors.items()})


def must_be_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError: peers would refuse such an update, so training must not have let it come so far."""
    import torch

    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} holds entries that are not finite")


def blob_limit(parts: Parts) -> int:
    """No valid blob is longer."""
    return LENGTH_BYTES + _header_limit(parts) + _data_bytes(parts)


def open_blob(blob: bytes, parts: Parts) -> dict[str, Tensor] | Refusal:
    """The stored tensors, exactly those of `parts`."""
    if len(blob) > blob_limit(parts):
        return Refusal("oversize", f"{len(blob)} bytes, at most {blob_limit(parts)}")
    header = _read_header(blob, _header_limit(parts))
    if isinstance(header, Refusal):
        return header
    data_bytes = len(blob) - LENGTH_BYTES - int.from_bytes(blob[:LENGTH_BYTES], "little")
    if refusal := _check_form(header, parts) or _check_kind(header, parts) or _check_offsets(header, data_bytes):
        return refusal
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(blob)
    except SafetensorError as error:
        return Refusal("malformed", str(error)[:200])


def same_dtype(schema: Schema, dtype: str, entry_bytes: int) -> dict[str, Part]:
    """Parts for a codec that stores every tensor under its own name and shape."""
    return {name: Part(dtype, entry_bytes, tuple(shape)) for name, shape in schema.items()}


def _read_header(blob: bytes, limit: int) -> dict[str, Any] | Refusal:
    if len(blob) < LENGTH_BYTES:
        return Refusal("malformed", f"{len(blob)} bytes hold no header")
    length = int.from_bytes(blob[:LENGTH_BYTES], "little")
    if length > limit:
        return Refusal("oversize", f"a header of {length} bytes, at most {limit}")
    if length > len(blob) - LENGTH_BYTES:
        return Refusal("malformed", "the header ends early")
    text = blob[LENGTH_BYTES : LENGTH_BYTES + length]
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # covers bad UTF-8, bad JSON, endless digits and deep nesting
        return Refusal("malformed", str(error)[:200])
    return header if isinstance(header, dict) else Refusal("malformed", "the header is no object")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_form(header: dict[str, Any], parts: Parts) -> Refusal | None:
    """Exactly the expected names, each described as the format says. Later checks may then index without asking."""
    if header.keys() != parts.keys():
        odd = sorted(header.keys() ^ parts.keys())
        return Refusal("schema", f"{len(odd)} names differ, such as {odd[0][:100]!r}")
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            return Refusal("malformed", f"{name} is not described by dtype, shape and data_offsets")
        if not _are_sizes(entry["shape"]) or not _are_sizes(entry["data_offsets"]) or len(entry["data_offsets"]) != 2:
            return Refusal("malformed", f"{name}: shape or offsets are not sizes")
    return None


def _check_kind(header: dict[str, Any], parts: Parts) -> Refusal | None:
    """Shapes first, then dtypes, then the bytes that both ask for."""
    for name, part in parts.items():
        if tuple(header[name]["shape"]) != part.shape:
            return Refusal("shape", f"{name} is {header[name]['shape'][:8]}, not {list(part.shape)}")
    for name, part in parts.items():
        if header[name]["dtype"] != part.dtype:
            return Refusal("dtype", f"{name} is {str(header[name]['dtype'])[:20]}, not {part.dtype}")
    for name, part in parts.items():
        begin, end = header[name]["data_offsets"]
        if end - begin != part.bytes:
            return Refusal("malformed", f"{name} spans {end - begin} bytes, not {part.bytes}")
    return None


def _check_offsets(header: dict[str, Any], data_bytes: int) -> Refusal | None:
    """The tensors lie side by side and fill the data: no hole, no overlap, nothing after the last."""
    reached = 0
    for begin, end in sorted(tuple(entry["data_offsets"]) for entry in header.values()):
        if begin != reached:
            return Refusal("malformed", f"a hole or an overlap at byte {min(begin, reached)}")
        reached = end
    return None if reached == data_bytes else Refusal("malformed", f"{data_bytes} bytes of data, not {reached}")


def _are_sizes(value: object) -> bool:
    # bool is an int in Python and no size
    return isinstance(value, list) and all(type(entry) is int and 0 <= entry < 2**48 for entry in value)


def _data_bytes(parts: Parts) -> int:
    return sum(part.bytes for part in parts.values())


def _header_limit(parts: Parts) -> int:
    """Length of the compact header with every offset as long as the last, padded: what our own writer never exceeds."""
    last = _data_bytes(parts)
    header = {n: {"dtype": p.dtype, "shape": list(p.shape), "data_offsets": [last, last]} for n, p in parts.items()}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))
    return -(-length // ALIGNMENT) * ALIGNMENT
