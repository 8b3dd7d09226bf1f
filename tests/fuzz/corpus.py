"""The inputs that are tried in every run: seeds, which the targets make anew, and what fuzzing found, in `found.txt`.

A line of `found.txt` is one input, made small: the target, a name, the bytes in base64, and the functions in which it took a
step that nothing kept before it took. Seeds are never stored: stored ones stay behind when a format moves on.
"""

from __future__ import annotations

import hashlib
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.target import Target

FOUND = Path(__file__).parent / "found.txt"
SOURCES = tuple(str(Path(__file__).parents[2] / package) for package in ("peerd", "p2pfinetune", "bootstrap"))
MAX_FOUND = 24  # of one target
MAX_FOUND_BYTES = 2048
MAX_ARCS = 20_000  # of one input; beyond, it says nothing new
MAX_NAMED = 3  # functions of one input

Arc = tuple[str, str, int, int]
"""A step inside one function: its file, its name, from which line to which."""


@dataclass(frozen=True, slots=True)
class Input:
    """One that is kept: `seed-...` or `found-...`."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """One line of the file."""

    target: str
    data: bytes
    where: tuple[str, ...]
    """Functions that it was the first to take a step in, at the time."""

    def line(self) -> str:
        """As it stands in the file."""
        return f"{self.target} {name_of(self.data)} {b64encode(self.data).decode() or '-'} {','.join(self.where)}"

    @classmethod
    def of(cls, line: str) -> Found:
        """From the file; the name must be that of the bytes."""
        target, name, text, where = line.split(" ")
        found = cls(target, b"" if text == "-" else b64decode(text, validate=True), tuple(where.split(",")))
        assert name_of(found.data) == name, line
        return found


def found_by_fuzzing() -> list[Found]:
    """All of them, of every target."""
    return [Found.of(line) for line in FOUND.read_text().splitlines() if not line.startswith("#")]


@cache
def _seeds(name: str, make: Callable[[], Iterator[bytes]]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(make()))


def kept(target: Target) -> list[Input]:
    """All inputs of a target, sorted."""
    seeds = [Input(f"seed-{name_of(seed)}", seed) for seed in _seeds(target.name, target.seeds)]
    found = [Input(f"found-{name_of(one.data)}", one.data) for one in found_by_fuzzing() if one.target == target.name]
    return sorted(seeds + found, key=lambda one: one.name)


def write_out(target: Target, folder: Path) -> Path:
    """The inputs as files, for a fuzzer that reads files."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in kept(target):
        (folder / one.name).write_bytes(one.data)
    return folder


def keep_found(target: Target, folder: Path) -> list[Found]:
    """What reaches code that nothing kept reaches, smallest first, is written into the file and returned."""
    reached: set[Arc] = set()
    for one in kept(target):
        reached |= arcs(target.run, one.data)
    everything = found_by_fuzzing()
    room, taken = MAX_FOUND - sum(one.target == target.name for one in everything), list[Found]()
    for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        if len(taken) >= room or len(data) > MAX_FOUND_BYTES:
            break
        if new := arcs(target.run, data) - reached:
            reached |= new
            taken.append(Found(target.name, data, _named(new)))
    write_found([*everything, *taken])
    return taken


def write_found(found: list[Found]) -> None:
    """Sorted, below what the file says of itself."""
    head = [line for line in FOUND.read_text().splitlines() if line.startswith("#")]
    FOUND.write_text("\n".join([*head, *sorted(one.line() for one in found)]) + "\n")


def _named(new: set[Arc]) -> tuple[str, ...]:
    return tuple(sorted({name for _, name, _, _ in new})[:MAX_NAMED])


def name_of(data: bytes) -> str:
    """Short and stable."""
    return hashlib.sha256(data).hexdigest()[:12]


def arcs(run: Callable[[bytes], None], data: bytes) -> set[Arc]:
    """Which steps from line to line of our own source one input takes."""
    found: set[Arc] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if event != "call" or not file.startswith(SOURCES) or len(found) > MAX_ARCS:
            return None
        last = frame.f_lineno

        def inside(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((file, name, last, frame.f_lineno))
                last = frame.f_lineno
            return inside

        return inside

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(data)
    finally:
        sys.settrace(before)
    return found


def hex_dump(data: bytes, *, limit: int = 512) -> Iterator[str]:
    """Sixteen bytes a line, as hexadecimal digits and as text."""
    for begin in range(0, min(len(data), limit), 16):
        part = data[begin : begin + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        yield f"{begin:06x}  {part.hex(' '):<47}  {text}"
    if len(data) > limit:
        yield f"... {len(data)} bytes in all"
