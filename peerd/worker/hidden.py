"""How an update is hidden, as the worker is told it."""

from __future__ import annotations

import msgspec


class Private(msgspec.Struct, frozen=True, kw_only=True):
    """How an update is hidden before it is encoded, and what was spent before."""

    clip: float
    noise: float
    delta: float
    budget: float
    """0: no limit."""
    spent: tuple[tuple[float, int], ...]
    """(noise, publications) pairs."""
