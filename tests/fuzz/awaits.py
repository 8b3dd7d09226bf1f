"""Throws an exception into a coroutine at awaits that a seed draws: what a bug anywhere in it would look like.

    thrower = Thrower(Random(7), odds=0.002)
    asyncio.get_running_loop().set_task_factory(thrower.factory)
    with thrower.aimed():                # tasks begun in here, and those that they begin, are struck
        daemon = tasks.create_task(...)
    thrower.is_armed = True

The await is the innermost one of a task: whatever is awaited goes on by itself, as it does where the waiting fails.
Left out is the wait of a task group for its tasks: it is the interpreter's own code, and awaits nothing of ours.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from random import Random
from types import FrameType
from typing import Any

KINDS = (RuntimeError, ValueError, KeyError, OSError, MemoryError, asyncio.CancelledError, TimeoutError, EOFError)
"""What is thrown; the cancellation is somebody else's, for the task itself was not cancelled."""


GROUPS = asyncio.taskgroups.__file__


class Thrower:
    """One seed's worth of mishaps."""

    def __init__(self, rng: Random, *, odds: float) -> None:
        self._rng, self._odds = rng, odds
        self._target: ContextVar[bool] = ContextVar("target", default=False)
        self.is_armed = False
        self.struck = Counter[str]()
        """Where, as function and line."""

    @contextmanager
    def aimed(self) -> Iterator[None]:
        """What is begun in here is struck."""
        token = self._target.set(True)
        try:
            yield
        finally:
            self._target.reset(token)

    def factory(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """For `set_task_factory`."""
        found = context.get(self._target, False) if context is not None else self._target.get()
        return asyncio.Task(_Driven(self, coro) if found else coro, loop=loop, context=context)

    def strikes(self, coro: Coroutine[Any, Any, Any]) -> BaseException | None:
        """What to throw at the await where it stands now."""
        if not self.is_armed or self._rng.random() >= self._odds or frames(coro)[-1].f_code.co_filename == GROUPS:
            return None
        self.struck[place(coro)] += 1
        kind = self._rng.choice(KINDS)
        return kind() if kind is asyncio.CancelledError else kind("thrown by a test")


class _Driven(Coroutine[Any, Any, Any]):
    """A coroutine out of whose waits something comes now and then instead of what it waits for."""

    def __init__(self, thrower: Thrower, coro: Coroutine[Any, Any, Any]) -> None:
        self._thrower, self._coro = thrower, coro

    def send(self, value: Any) -> Any:
        """One step."""
        return self._struck(self._coro.send(value))

    def throw(self, *error: Any) -> Any:
        """One step, on which the loop throws something itself."""
        return self._struck(self._coro.throw(*error))

    def close(self) -> None:
        """At its end."""
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def _struck(self, waits_for: Any) -> Any:
        while (error := self._thrower.strikes(self._coro)) is not None:
            if getattr(waits_for, "_asyncio_future_blocking", None):
                waits_for._asyncio_future_blocking = False
            waits_for = self._coro.throw(error)
        return waits_for


def place(coro: Any) -> str:
    """The innermost frame of ours that waits."""
    ours = [frame for frame in frames(coro) if "/peerd/" in frame.f_code.co_filename]
    if not ours:
        return "?"
    code = ours[-1].f_code
    return f"{code.co_filename.rpartition('/peerd/')[2]}:{ours[-1].f_lineno} {code.co_name}"


def frames(coro: Any) -> list[FrameType]:
    """All that wait for one another, the innermost last."""
    found = []
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None) or getattr(coro, "ag_frame", None)
        if frame is not None:
            found.append(frame)
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None) or getattr(coro, "ag_await", None)
    return found
