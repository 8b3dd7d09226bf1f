"""The container of codecs that write levels: numbers of steps, entropy coded, and nothing that both sides know.

Names, shapes and order follow from the schema, so none of them travel; for small adapters a container that lists them
is longer than what it holds. The layout (integers little-endian):

    8   tag: the first bytes of SHA-256 over the form's name and the schema; another network's or form's is refused
    4   step, fp32
    1   table by which the groups' numbers are coded
    4   bytes of the groups' stream
    ..  groups' stream: of each GROUP entries the table of its numbers, less that of the group before (`_entropy`)
    ..  numbers' stream: one an entry, of the tensors in the order of their names

A table beyond the last is the last with steps doubled so many times: so a group with an outlier costs itself alone, and
no entry is further from its value than half a step of its group.

Everything about a blob that could be wrong is found before a number becomes a tensor, and memory is what the schema
asks for, whatever the blob says.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.codec import _entropy as entropy
from p2pfinetune.codec._base import Schema
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

TAG_BYTES: Final = 8
OF_ANOTHER: Final = "of another form, or of an adapter with other names or shapes"
GROUP: Final = 64  # entries that share a table: part of the format
MAX_SHIFT: Final = 60  # doublings of a step
FIXED: Final = 1 << 15  # of the largest entry, for a mean square in whole numbers
HEAD: Final = struct.Struct("<8sfBI")
LARGEST_STEP: Final = float(np.finfo(np.float32).max)
LEAST_STEP: Final = 2.0**-149

Values = NDArray[np.float64]


def vector(tensors: Mapping[str, Tensor]) -> Values:
    """(entries,) in fp64, tensors in the order of their names. ValueError for what is not finite."""
    from p2pfinetune.codec._container import must_be_finite

    must_be_finite(tensors)
    parts = [tensors[name].detach().reshape(-1).double().numpy() for name in sorted(tensors)]
    return np.concatenate(parts) if parts else np.zeros(0)


def tensors_of(values: Values, schema: Schema) -> dict[str, Tensor]:
    """The other way round, in fp32; what is beyond its range becomes its largest."""
    import torch

    kept = np.clip(values, -LARGEST_STEP, LARGEST_STEP).astype(np.float32)
    return {name: torch.from_numpy(part) for name, part in split(kept, schema).items()}


def split(values: NDArray[Any], schema: Schema) -> dict[str, NDArray[Any]]:
    """A copy of the entries of each tensor, in its shape."""
    names = sorted(schema)
    ends = np.cumsum([math.prod(schema[name]) for name in names], dtype=np.int64)
    parts = dict(zip(names, np.split(values, ends), strict=False))  # behind the last end is what fills a group
    return {name: parts[name].reshape(tuple(schema[name])).copy() for name in schema}


def bounds(tensors: Mapping[str, Tensor], values: Values, step: float) -> dict[str, Tensor]:
    """Largest error of each entry after `write` and `read` of `values`: half a step of its group, and of fp32."""
    import torch

    half = np.repeat(np.ldexp(step, _shifts(values, step)), GROUP) * (0.5 + 2.0**-20) + LEAST_STEP
    parts = split(half, shapes(tensors))
    return {name: torch.from_numpy(parts[name]) + t.double().abs() * 2.0**-23 for name, t in tensors.items()}


def shapes(tensors: Mapping[str, Tensor]) -> Schema:
    """The schema of these very tensors."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def root_mean_square(values: Values) -> float:
    """The same on every processor: a sum of fractions depends on its order, one of whole numbers does not."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    squares = int((np.rint(values / largest * FIXED).astype(np.int64) ** 2).sum())
    return largest * (math.sqrt(squares / len(values)) / FIXED)


def as_step(size: float) -> float:
    """The nearest step that can be written; zero stays zero."""
    return 0.0 if size == 0.0 else float(np.float32(min(max(size, LEAST_STEP), LARGEST_STEP)))


def write(form: str, schema: Schema, values: Values, step: float) -> bytes | None:
    """`values` rounded to steps; None if they are beyond all bounds of this step."""
    if step == 0.0:
        shifts = np.zeros(-(-len(values) // GROUP), np.int64)
        numbers = np.zeros(len(values), np.int64)
    else:
        shifts = _shifts(values, step)
        if shifts.max(initial=0) > MAX_SHIFT:
            return None
        by_entry = np.repeat(shifts, GROUP)[: len(values)]
        numbers = np.rint(np.ldexp(values / step, -by_entry)).astype(np.int64)
    tables = _best_tables(numbers) + shifts
    tables[shifts > 0] = entropy.TABLES - 1 + shifts[shifts > 0]
    changes = np.diff(tables, prepend=0)
    of_groups = int(_cheapest(changes))
    groups = entropy.coded(changes, np.full(len(changes), of_groups, np.int64))
    by_entry = np.repeat(np.minimum(tables, entropy.TABLES - 1), GROUP)[: len(values)]
    return HEAD.pack(tag(form, schema), step, of_groups, len(groups)) + groups + entropy.coded(numbers, by_entry)


def read(form: str, schema: Schema, blob: bytes) -> Values | Refusal:
    """(entries,) in the order of names; what `write` rounded to."""
    count = entries(schema)
    if len(blob) > max_bytes(schema):
        return Refusal("oversize", f"{len(blob)} bytes, at most {max_bytes(schema)}")
    if len(blob) < HEAD.size:
        return Refusal("malformed", f"{len(blob)} bytes hold no head")
    found_tag, step, of_groups, length = HEAD.unpack_from(blob)
    if found_tag != tag(form, schema):
        return Refusal("schema", OF_ANOTHER)
    if not (math.isfinite(step) and step >= 0.0):
        return Refusal("not-finite", f"a step of {step}")
    groups, body = blob[HEAD.size : HEAD.size + length], blob[HEAD.size + length :]
    tables = _tables(groups, -(-count // GROUP), of_groups)
    if tables is None or len(groups) != length:
        return Refusal("malformed", "the tables of the groups cannot be read")
    by_entry = np.repeat(tables, GROUP)[:count]
    found = entropy.decoded(body, count, np.minimum(by_entry, entropy.TABLES - 1))
    if found is None or found[1] != len(body):
        return Refusal("malformed", "the numbers do not end where they should")
    values: Values = np.ldexp(found[0] * float(step), np.maximum(by_entry - (entropy.TABLES - 1), 0))
    return values


def step_of(blob: bytes) -> float:
    """Of a blob that `read` has read."""
    return float(HEAD.unpack_from(blob)[1])


def max_bytes(schema: Schema) -> int:
    """No blob that `write` makes is longer; a bound, not close, since what is coded well is shorter."""
    count = entries(schema)
    return HEAD.size + entropy.longest(count) + 2 * entropy.longest(-(-count // GROUP))


def _tables(data: bytes, count: int, table: int) -> NDArray[np.int64] | None:
    if table >= entropy.TABLES:
        return None
    found = entropy.decoded(data, count, np.full(count, table, np.int64))
    if found is None or found[1] != len(data):
        return None
    tables = np.cumsum(found[0])
    highest = entropy.TABLES - 1 + MAX_SHIFT
    return tables if tables.min(initial=0) >= 0 and tables.max(initial=0) <= highest else None


def _shifts(values: Values, step: float) -> NDArray[np.int64]:
    """(groups,): how often the step is doubled, so that the largest of each group is within bounds."""
    if step == 0.0:
        return np.zeros(-(-len(values) // GROUP), np.int64)
    largest = np.abs(_in_groups(values)).max(axis=1, initial=0.0) / step / (entropy.LARGEST + 0.25)
    shifts: NDArray[np.int64] = np.maximum(np.frexp(largest)[1], 0).astype(np.int64)
    return shifts


def _best_tables(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(groups,): by which the numbers of each take the fewest bits."""
    sizes = np.abs(_in_groups(numbers))
    by_table = np.stack([row[sizes].sum(axis=1) for row in entropy.costs()]) if len(sizes) else np.zeros((1, 0))
    best: NDArray[np.int64] = by_table.argmin(axis=0).astype(np.int64)
    return best


def _cheapest(numbers: NDArray[np.int64]) -> Any:
    return entropy.costs()[:, np.abs(numbers)].sum(axis=1).argmin()


def _in_groups(values: NDArray[Any]) -> NDArray[Any]:
    """(groups, GROUP), the last filled with zeros."""
    return np.pad(values, (0, -len(values) % GROUP)).reshape(-1, GROUP)


def entries(schema: Schema) -> int:
    """Numbers in an update."""
    return sum(math.prod(shape) for shape in schema.values())


def unfit(blob: bytes, form: str, schema: Schema, length: int) -> Refusal | None:
    """Why these are not bytes of a form that is always as long for one schema; None if they may be."""
    if len(blob) > length:
        return Refusal("oversize", f"{len(blob)} bytes, at most {length}")
    if len(blob) >= TAG_BYTES and blob[:TAG_BYTES] != tag(form, schema):
        return Refusal("schema", OF_ANOTHER)
    return Refusal("malformed", f"{len(blob)} bytes, not {length}") if len(blob) < length else None


def tag(form: str, schema: Schema) -> bytes:
    """By which a form and a schema are known."""
    meaning = [form, sorted((name, list(shape)) for name, shape in schema.items())]
    return hashlib.sha256(json.dumps(meaning, separators=(",", ":")).encode()).digest()[:TAG_BYTES]
