"""LoRAQuant for updates: factors are turned so that few components hold most of them; those get more bits.

LoRAQuant (arXiv 2510.26690) splits the product B A of a finished adapter by its singular values into an important part,
of two or three bits, and a rest of signs, in groups of 128. Two things differ for an update that is merged:

- Peers' factors are averaged, so they must come back in the gauge in which all of them train. The factors are turned by
  an orthogonal matrix, quantised there, and turned back by the reader, who is told the matrix in eight bits an entry.
- What is told is relative to the seeded A, so it is A's change and B that are turned: by the eigenvectors of the sum of
  both Gram matrices, each taken relative to its trace.

Those are found by Jacobi's rotations of a matrix of whole numbers, in an order that is fixed, since libraries' own
solvers give other last bits on other processors. A factor without its other half is turned by itself; beyond
`MAX_RANK` nothing is turned, as the rotations would take longer than they are worth.

    8   tag: the form and the schema
    ..  turns: I8, rank x rank for each module in the order of names
    ..  scales: bf16, one for each group of the important components, then of the rest, tensor by tensor
    ..  codes: of the important components 3 bits an entry, then of the rest 1, likewise; zeros to the end of the byte

A code c of b bits is (2c + 1 - 2^b) / (2^b - 1) of its scale: no zero, and with one bit the two signs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.codec import _coded as coded
from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.codec._bf16_bits import are_scales, bits_of, values_of
from p2pfinetune.codec._container import must_be_finite
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

GROUP: Final = 128  # entries that share a scale: part of the format, and the paper's
HIGH_BITS: Final = 3
MAX_RANK: Final = 32
SWEEPS: Final = 12  # of rotations; eight make a matrix of 32 rows diagonal to rounding
GRAM_SCALE: Final = 1 << 20  # of the largest entry, in the whole numbers of which the Gram matrix is made

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Module:
    """The factors of one layer that are told, as (length, rank) matrices."""

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    rank: int

    @property
    def is_turned(self) -> bool:
        return 1 < self.rank <= MAX_RANK


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraQuant(Codec):
    """What the two codecs of this kind share: `important` of 8 components are written in 3 bits, the rest in 1."""

    important: int

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Turned, split and rounded."""
        must_be_finite(tensors)
        schema = coded.shapes(tensors)
        turns: list[bytes] = []
        scales: list[Matrix] = []
        bits: list[NDArray[np.uint8]] = []
        for module in modules(schema):
            factors = [columns(name, tensors[name]) for name in module.names]
            turn = turn_of(factors) if module.is_turned else np.eye(module.rank)
            turns.append(_rounded_turn(turn).tobytes() if module.is_turned else b"")
            for factor in factors:
                for part, width in self._parts(_times(factor, turn), module.rank):
                    scale, codes = quantised(part, width)
                    scales.append(scale)
                    bits.append(np.unpackbits(codes[:, None], axis=1)[:, 8 - width :].reshape(-1))
        packed = np.packbits(np.concatenate(bits)) if bits else np.zeros(0, np.uint8)
        written = bits_of(np.concatenate(scales)) if scales else np.zeros(0, "<u2")
        return coded.tag(self._form, schema) + b"".join(turns) + written.tobytes() + packed.tobytes()

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Rounded parts, turned back."""
        if refusal := coded.unfit(blob, self._form, schema, self.max_bytes(schema)):
            return refusal
        found = modules(schema)
        turn_bytes, groups, bits = self._sizes(found)
        turns = np.frombuffer(blob, np.int8, turn_bytes, coded.TAG_BYTES)
        scale_bits = np.frombuffer(blob, "<u2", groups, coded.TAG_BYTES + turn_bytes)
        packed = np.unpackbits(np.frombuffer(blob, np.uint8, -1, coded.TAG_BYTES + turn_bytes + 2 * groups))
        if not are_scales(scale_bits):
            return Refusal("not-finite", "a scale")
        if packed[bits:].any():
            return Refusal("malformed", "something stands behind the last code")
        return self._turned_back(
            found, schema, _FromFront(turns), _FromFront(values_of(scale_bits)), _FromFront(packed)
        )

    def max_bytes(self, schema: Schema) -> int:
        """Every blob of a schema has the same length."""
        turn_bytes, groups, bits = self._sizes(modules(schema))
        return coded.TAG_BYTES + turn_bytes + 2 * groups + -(-bits // 8)

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Of a matrix that is told by itself, as `NAME.lora_A`."""
        return self.error_bounds({".lora_A": tensor})[".lora_A"]

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of each entry: what its row may lose in the turned components, and by the rounding of the turn."""
        import torch

        found: dict[str, Tensor] = {}
        for module in modules(coded.shapes(tensors)):
            factors = [columns(name, tensors[name]) for name in module.names]
            turn = turn_of(factors) if module.is_turned else np.eye(module.rank)
            told = _rounded_turn(turn) / 127.0 if module.is_turned else turn
            for name, factor in zip(module.names, factors, strict=True):
                turned = _times(factor, turn)
                lost = np.concatenate([_losses(part, w) for part, w in self._parts(turned, module.rank)])
                by_component = lost.reshape(module.rank, -1).T
                bound = by_component @ np.abs(told).T + np.abs(turned) @ np.abs(turn - told).T
                bound += (np.abs(turned).sum(axis=1, keepdims=True) + bound) * 2.0**-20 + 2.0**-120
                found[name] = torch.from_numpy(_as_shaped(name, bound, tuple(tensors[name].shape)).copy())
        return found

    @property
    def _form(self) -> str:
        return f"lora-quant 1, {self.important} of 8"

    def _high(self, rank: int) -> int:
        """Components in HIGH_BITS."""
        return -(-rank * self.important // 8)

    def _parts(self, turned: Matrix, rank: int) -> Iterator[tuple[Matrix, int]]:
        """Flat entries of the important components, then of the rest, with their bits; component after component."""
        high = self._high(rank)
        yield turned[:, :high].T.reshape(-1), HIGH_BITS
        yield turned[:, high:].T.reshape(-1), 1

    def _sizes(self, found: list[Module]) -> tuple[int, int, int]:
        """Bytes of turns, groups, bits of codes."""
        turn_bytes = sum(module.rank**2 for module in found if module.is_turned)
        counts = [
            (length * components, width)
            for module in found
            for length in module.lengths
            for components, width in ((self._high(module.rank), HIGH_BITS), (module.rank - self._high(module.rank), 1))
        ]
        return turn_bytes, sum(-(-n // GROUP) for n, _ in counts), sum(n * width for n, width in counts)

    def _turned_back(
        self, found: list[Module], schema: Schema, turns: _FromFront, scales: _FromFront, bits: _FromFront
    ) -> dict[str, Tensor]:
        values: dict[str, Matrix] = {}
        for module in found:
            rank = module.rank
            told = turns.take(rank * rank).reshape(rank, rank) / 127.0 if module.is_turned else np.eye(rank)
            for name, length in zip(module.names, module.lengths, strict=True):
                parts = []
                for width, components in ((HIGH_BITS, self._high(rank)), (1, rank - self._high(rank))):
                    count = length * components
                    codes = bits.take(count * width).reshape(count, width) @ (1 << np.arange(width)[::-1])
                    parts.append(said(scales.take(-(-count // GROUP)), codes, width))
                turned = np.concatenate(parts).reshape(rank, length).T
                values[name] = _as_shaped(name, _times(turned, told.T), tuple(schema[name])).reshape(-1)
        flat = np.concatenate([values[name] for name in sorted(schema)]) if schema else np.zeros(0)
        return coded.tensors_of(flat, schema)


class _FromFront:
    """An array that is taken from the front."""

    def __init__(self, whole: NDArray[Any]) -> None:
        self._whole, self._place = whole, 0

    def take(self, count: int) -> NDArray[Any]:
        self._place += count
        return self._whole[self._place - count : self._place]


def modules(schema: Schema) -> list[Module]:
    """What is told of each layer, in the order of names."""
    by_layer: dict[str, list[str]] = {}
    for name in sorted(schema):
        by_layer.setdefault(name.removesuffix(".lora_A").removesuffix(".lora_B"), []).append(name)
    found = []
    for names in by_layer.values():
        sizes = [_size(name, schema[name]) for name in names]
        if len({rank for _, rank in sizes}) == 1:
            found.append(Module(tuple(names), tuple(length for length, _ in sizes), sizes[0][1]))
        else:
            found += [Module((name,), (length,), rank) for name, (length, rank) in zip(names, sizes, strict=True)]
    return found


def _size(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """Length and rank of a factor; of what is none, one component."""
    if len(shape) != 2:
        return math.prod(shape), 1
    return (shape[0], shape[1]) if name.endswith(".lora_B") else (shape[1], shape[0])


def columns(name: str, tensor: Tensor) -> Matrix:
    """(length, rank) in fp64."""
    values = tensor.detach().double().numpy()
    if values.ndim != 2:
        return values.reshape(-1, 1)
    return values if name.endswith(".lora_B") else values.T


def _as_shaped(name: str, matrix: Matrix, shape: tuple[int, ...]) -> Matrix:
    return (matrix.T if len(shape) == 2 and not name.endswith(".lora_B") else matrix).reshape(shape)


def quantised(values: Matrix, width: int) -> tuple[Matrix, NDArray[np.uint8]]:
    """(groups,) scales that a bf16 holds, and (entries,) codes."""
    scales = _scales(values, width)
    scale = np.repeat(scales, GROUP)[: len(values)]
    safe = np.where(scale > 0.0, scale, 1.0)
    codes = np.floor((values / safe * (2**width - 1) + 2**width) / 2.0)
    return scales, np.clip(codes, 0, 2**width - 1).astype(np.uint8)


def said(scales: Matrix, codes: NDArray[Any], width: int) -> Matrix:
    """(entries,): what the codes of groups with these scales stand for."""
    scale = np.repeat(scales, GROUP)[: len(codes)]
    values: Matrix = (2.0 * codes + 1.0 - 2**width) / (2**width - 1) * scale
    return values


def _scales(values: Matrix, width: int) -> Matrix:
    """The largest magnitude of each group, or of signs the mean one, rounded to bf16."""
    groups = np.abs(np.pad(values, (0, -len(values) % GROUP)).reshape(-1, GROUP))
    largest = groups.max(axis=1, initial=0.0)
    if width == 1:
        filled = np.full(len(groups), GROUP)
        filled[-1:] -= -len(values) % GROUP
        parts = np.rint(groups / np.where(largest > 0.0, largest, 1.0)[:, None] * coded.FIXED).astype(np.int64)
        largest = largest * (parts.sum(axis=1) / filled / coded.FIXED)
    return values_of(bits_of(largest))


def _losses(values: Matrix, width: int) -> Matrix:
    """Largest error of each entry: what its code leaves."""
    lost: Matrix = np.abs(values - said(*quantised(values, width), width))
    return lost


def turn_of(factors: list[Matrix]) -> Matrix:
    """(rank, rank) orthogonal: components in the order of what they hold, the largest first."""
    gram = np.zeros((factors[0].shape[1],) * 2)
    for factor in factors:
        largest = float(np.abs(factor).max(initial=0.0))
        if largest > 0.0:
            whole = np.rint(factor / largest * GRAM_SCALE).astype(np.int64)
            squares = _gram(whole)
            gram += squares / np.trace(squares)
    values, vectors = jacobi(gram)
    return vectors[:, np.argsort(-values, kind="stable")]


def _gram(whole: NDArray[np.int64]) -> Matrix:
    """Exact sums of products of whole numbers, in two halves so that none overflows; then rounded once."""
    high, low = whole >> 10, whole & 1023
    return (high.T @ high) * float(1 << 20) + (high.T @ low + low.T @ high) * float(1 << 10) + low.T @ low


def jacobi(symmetric: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues and eigenvectors as columns, by rotations in a fixed order (Golub and Van Loan, section 8.5)."""
    a, v = symmetric.copy(), np.eye(len(symmetric))
    for _ in range(SWEEPS):
        for p in range(len(a) - 1):
            for q in range(p + 1, len(a)):
                _rotate(a, v, p, q)
    return np.diag(a).copy(), v


def _rotate(a: Matrix, v: Matrix, p: int, q: int) -> None:
    if abs(a[p, q]) <= 1e-15 * (abs(a[p, p]) + abs(a[q, q])):
        return
    ratio = float(a[q, q] - a[p, p]) / (2.0 * float(a[p, q]))
    tangent = math.copysign(1.0, ratio) / (abs(ratio) + math.sqrt(ratio * ratio + 1.0))
    cosine = 1.0 / math.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    for matrix in (a, a.T, v):  # columns, then rows of the one; columns of the other
        left = cosine * matrix[:, p] - sine * matrix[:, q]
        matrix[:, q] = sine * matrix[:, p] + cosine * matrix[:, q]
        matrix[:, p] = left


def _times(left: Matrix, right: Matrix) -> Matrix:
    """A product whose sums have one order, so that it is the same on every processor."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for column, row in zip(left.T, right, strict=True):
        total += column[:, None] * row[None, :]
    return total


def _rounded_turn(turn: Matrix) -> NDArray[np.int8]:
    return np.rint(np.clip(turn, -1.0, 1.0) * 127.0).astype(np.int8)
