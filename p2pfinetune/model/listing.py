"""What a list of models says of each. Values alone, so that reading them loads nothing."""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["embedded", "hub", "gguf", "folder"]


class ModelHere(msgspec.Struct, frozen=True, kw_only=True):
    """One base model on this machine."""

    name: str
    """To be typed after --model."""
    source: Source
    path: str
    title: str = ""
    """What it calls itself, if that is not the name."""
    parameters: int = 0
    numbers: str = ""
    """In which it is stored, such as BF16."""
    disk_bytes: int = 0
    licence: str = ""
    """As its card or file states it; empty if neither does."""
    context: int = 0
    """Tokens that it can look at."""
    memory_bytes: int | None = None
    """Computed, to train it with the usual options; null for a kind of which nothing is known."""
    least_bytes: int | None = None
    """The same with every measure that changes no result."""
    tokens_per_second: float | None = None
    """Of training, measured here; null if it was not."""
    problem: str = ""
    """Why it cannot be used; empty if nothing is known against it."""
    is_mine: bool = False
    """Whether it is the one of this home."""
    says: str = ""
    """What a person should know before choosing it."""
