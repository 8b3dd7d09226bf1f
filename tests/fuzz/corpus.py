"""The inputs that are kept: `corpus/<target>/seed-...` made from real values, `found-...` by fuzzing, made small."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.target import Target

FOLDER = Path(__file__).parent / "corpus"
SOURCES = tuple(str(Path(__file__).parents[2] / package) for package in ("peerd", "p2pfinetune", "bootstrap"))
MAX_FOUND = 24  # of one target
MAX_FOUND_BYTES = 2048
MAX_ARCS = 20_000  # of one input; beyond, it says nothing new


def folder_of(target: Target) -> Path:
    """Of one target."""
    return FOLDER / target.name


def kept(target: Target) -> list[Path]:
    """All inputs, sorted."""
    return sorted(path for path in folder_of(target).glob("*") if path.is_file())


def write_seeds(target: Target) -> None:
    """The seeds as files; those that no longer are seeds go."""
    folder = folder_of(target)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {f"seed-{name_of(seed)}": seed for seed in target.seeds()}
    for path in folder.glob("seed-*"):
        if path.name not in seeds:
            path.unlink()
    for name, seed in seeds.items():
        (folder / name).write_bytes(seed)


def keep_found(target: Target, found: Path) -> int:
    """Take over what reaches code that nothing kept reaches, smallest first; how many."""
    reached: set[Any] = set()
    for path in kept(target):
        reached |= arcs(target.run, path.read_bytes())
    taken = 0
    room = MAX_FOUND - len(list(folder_of(target).glob("found-*")))
    for path in sorted(found.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        if taken >= room or len(data) > MAX_FOUND_BYTES:
            break
        if (new := arcs(target.run, data)) - reached:
            reached |= new
            (folder_of(target) / f"found-{name_of(data)}").write_bytes(data)
            taken += 1
    return taken


def name_of(data: bytes) -> str:
    """Short and stable."""
    return hashlib.sha256(data).hexdigest()[:12]


def arcs(run: Callable[[bytes], None], data: bytes) -> set[tuple[str, int, int]]:
    """Which steps from line to line of our own source one input takes."""
    found: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(SOURCES) or len(found) > MAX_ARCS:
            return None
        last = frame.f_lineno

        def inside(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((name, last, frame.f_lineno))
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
