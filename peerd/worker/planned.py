"""How a worker will run the model so that it fits: what is known of memory before anything is loaded."""

from __future__ import annotations

import msgspec

from p2pfinetune.model.memory import MemoryPlan
from peerd.status import MemoryNow


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """How the worker runs the model so that it fits, known before it is loaded."""

    plan: MemoryPlan
    memory: MemoryNow
    is_last: bool
    """Whether there is no lighter plan."""
    ways: list[str] = []
    """Options of `peerd start` with which it would take less."""
