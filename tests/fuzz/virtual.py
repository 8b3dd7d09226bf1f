"""An event loop in virtual time: where nothing is left to do, the clock jumps to the next thing that is due.

Whole daemons live hours in seconds, and alike in every run, as long as nothing in them waits for a thread, a process
or a socket.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Jumping(selectors.SelectSelector):
    """Instead of waiting it moves the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now. Raises RuntimeError where everybody waits for ever."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is due")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at second 1000, since zero is a time that some code takes for never."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds."""
        return 1000.0 + self._jumping.now


def play(scenario: Coroutine[Any, Any, Result]) -> Result:
    """What comes of it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario)
