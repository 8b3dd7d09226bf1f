"""Read what a GGUF file says of itself, believing nothing: the facts and tensors at its head, and no weights.

The format is llama.cpp's (github.com/ggml-org/ggml, docs/gguf.md): a magic number, counts, key-value facts, a table
of tensors, then their bytes. Readers allocate what the head claims and loop as often as it counts, so a file of 40
bytes can ask for all memory or all time. Here every length is held against the bytes that are left before it is used,
every count against what the shortest entries of that many would take, and no two tensors may share bytes: what passes
describes no more than the file holds, and can be handed on.

Neither torch nor the package `gguf` is needed, so a list of models can be made quickly.
"""

from __future__ import annotations

import math
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from p2pfinetune.errors import ModelError

MAGIC: Final = b"GGUF"
SUFFIX: Final = ".gguf"
VERSIONS: Final = (2, 3)
MAX_FACTS: Final = 1 << 12  # llama.cpp writes some forty
MAX_TENSORS: Final = 1 << 17  # a mixture of 512 experts that were not fused, in 80 layers
MAX_STRING: Final = 1 << 22  # bytes; the longest are chat templates
MAX_ENTRIES: Final = 1 << 22  # of a list; vocabularies and merges have some hundred thousand
MAX_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
MAX_LAYERS: Final = 1 << 10
SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, LIST = 8, 9
BLOCKS: Final = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Of each kind of numbers (enum ggml_type): its name, how many make a block, and the bytes of that."""

Fact = bool | int | float | str
"""A list is kept as its length."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor: shape as torch has it, kind of its numbers, and where its bytes are, from the start of the data."""

    name: str
    shape: tuple[int, ...]
    kind: str
    begin: int
    size: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


class GgufHeader(msgspec.Struct, frozen=True):
    """What a GGUF file says of itself, all of which it has room for."""

    facts: dict[str, Fact]
    tensors: tuple[Tensor, ...]

    @property
    def architecture(self) -> str:
        """As llama.cpp calls it."""
        return str(self.facts.get("general.architecture", ""))

    @property
    def parameters(self) -> int:
        return sum(tensor.count for tensor in self.tensors)

    @property
    def kinds(self) -> frozenset[str]:
        """In which numbers matrices are stored; norms and biases are in 32 bits whatever the file is."""
        return frozenset(t.kind for t in self.tensors if len(t.shape) > 1)

    def said(self, key: str) -> str:
        """A fact that is text, in one line of at most 80 printable characters; empty if it is not there."""
        found = self.facts.get(key, "")
        return (
            " ".join("".join(c if c.isprintable() else " " for c in found).split())[:80]
            if isinstance(found, str)
            else ""
        )


def is_gguf(path: Path) -> bool:
    """Whether it is a file that begins as a GGUF does. Raises nothing: what cannot be read is none."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> GgufHeader:
    """What stands at the head of a GGUF file. ModelError if it is none, is damaged, or claims more than it holds."""
    try:
        with path.open("rb", buffering=1 << 16) as file:
            return _Reader(file, path.stat().st_size).header()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}", "look at its rights") from error
    except (ValueError, struct.error) as error:
        raise ModelError(f"{path} is no GGUF file that can be read: {error}", "fetch the file again") from error


class _Reader:
    """Takes a file apart from its start. ValueError says what is wrong."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._left = file, size, size

    def header(self) -> GgufHeader:
        if self._take(4) != MAGIC:
            raise ValueError("it does not begin as one")
        if (version := self._number("<I")) not in VERSIONS:
            raise ValueError(f"its version is {version}; known are {VERSIONS[0]} and {VERSIONS[1]}")
        tensors = self._count("tensors", MAX_TENSORS, 8 + 4 + 8 + 4 + 8)
        facts = self._facts(self._count("facts", MAX_FACTS, 8 + 4 + 1))
        return GgufHeader(facts, self._tensors(tensors, _alignment(facts)))

    def _facts(self, count: int) -> dict[str, Fact]:
        facts: dict[str, Fact] = {}
        for _ in range(count):
            key = self._text()
            if key in facts:
                raise ValueError(f"it says {key!r} twice")
            facts[key] = self._value(self._number("<I"))
        return facts

    def _value(self, kind: int) -> Fact:
        if kind == STRING:
            return self._text()
        if kind != LIST:
            return self._scalar(kind)
        kind = self._number("<I")
        width = 8 if kind == STRING else struct.calcsize(self._format(kind))
        count = self._count("entries of a list", MAX_ENTRIES, width)
        if kind == STRING:
            for _ in range(count):
                self._skip(self._number("<Q"))
        else:
            self._skip(count * width)
        return count

    def _tensors(self, count: int, alignment: int) -> tuple[Tensor, ...]:
        found = tuple(self._tensor(alignment) for _ in range(count))
        if len({tensor.name for tensor in found}) < count:
            raise ValueError("two of its tensors have one name")
        read = self._size - self._left
        room = self._size - (read + alignment - 1) // alignment * alignment
        placed = sorted(found, key=lambda tensor: (tensor.begin, tensor.size))
        for tensor in placed:
            if tensor.begin + tensor.size > room:
                raise ValueError(f"it ends before its tensor {tensor.name!r} does")
        for before, after in pairwise(placed):
            if before.begin + before.size > after.begin:
                raise ValueError(f"its tensors {before.name!r} and {after.name!r} lie in one place")
        return found

    def _tensor(self, alignment: int) -> Tensor:
        name, dimensions = self._text(), self._number("<I")
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError(f"its tensor {name!r} has {dimensions} dimensions")
        shape = tuple(reversed(struct.unpack(f"<{dimensions}Q", self._take(8 * dimensions))))
        number, begin = struct.unpack("<IQ", self._take(12))
        if number not in BLOCKS:
            raise ValueError(f"its tensor {name!r} is in numbers of a kind {number} that is not known here")
        kind, block, size = BLOCKS[number]
        if 0 in shape or shape[-1] % block:
            raise ValueError(f"its tensor {name!r} of {kind} cannot have the shape {list(shape)}")
        if begin % alignment:
            raise ValueError(f"its tensor {name!r} does not begin at a multiple of {alignment} bytes")
        return Tensor(name, shape, kind, begin, math.prod(shape) // block * size)

    def _count(self, what: str, most: int, width: int) -> int:
        count = self._number("<Q")
        if count > most or count * width > self._left:
            raise ValueError(f"it claims {count:,} {what}, more than it has room for")
        return count

    def _text(self) -> str:
        length = self._number("<Q")
        if length > MAX_STRING:
            raise ValueError(f"it claims a text of {length:,} bytes")
        return self._take(length).decode("utf-8")

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _scalar(self, kind: int) -> Fact:
        form = self._format(kind)
        value: bool | int | float = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _format(self, kind: int) -> str:
        if kind not in SCALARS:
            raise ValueError(f"it holds a value of a kind {kind} that is not known here")
        return SCALARS[kind]

    def _take(self, size: int) -> bytes:
        self._spend(size)
        if len(taken := self._file.read(size)) < size:
            raise ValueError("it ends early")
        return taken

    def _skip(self, size: int) -> None:
        self._spend(size)
        self._file.seek(size, 1)

    def _spend(self, size: int) -> None:
        if size > self._left:
            raise ValueError("it ends early")
        self._left -= size


def _alignment(facts: dict[str, Fact]) -> int:
    """Bytes to a multiple of which data begin; 32 if nothing is said."""
    said = facts.get("general.alignment", 32)
    if not isinstance(said, int) or not 1 <= said <= 1 << 16 or said & (said - 1):
        raise ValueError(f"its data cannot be aligned to {said}")
    return said
