"""Text made by dice, of which a tiny model learns something within some steps."""

from __future__ import annotations

import random
from pathlib import Path

WORDS: dict[str, list[str]] = {
    "water": [
        "river", "boat", "lake", "rain", "tide", "harbour", "wave", "sail", "fish", "net", "shore", "storm", "deck", "anchor",
        "salt",
    ],
    "stone": [
        "granite", "quarry", "wall", "arch", "tower", "chisel", "marble", "slab", "gravel", "road", "brick", "mason", "vault",
        "cliff", "ore",
    ],
}  # fmt: skip
"""Two kinds of text that a model can tell apart."""


def sentences(kind: str, seed: int, *, files: int = 24, lines: int = 12) -> list[str]:
    """The content of so many files, lines of nine words of one kind."""
    dice = random.Random(seed)

    def line() -> str:
        return " ".join(dice.choices(WORDS[kind], k=9)).capitalize() + "."

    return ["\n".join(line() for _ in range(lines)) for _ in range(files)]


def write_text(folder: Path, kind: str, seed: int, *, files: int = 24) -> Path:
    """Sentences of one kind of words: 24 files are enough for four splits at a context of 32 tokens."""
    folder.mkdir(parents=True)
    for number, text in enumerate(sentences(kind, seed, files=files)):
        (folder / f"{number}.txt").write_text(text)
    return folder
