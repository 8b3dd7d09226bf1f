"""Feeds the pure core with events, one at a time, and has its effects performed as named tasks.

The only owner of the node. Nothing here decides anything about peers, rounds or models.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from p2pfinetune.names import PeerId
from peerd.core.effects import AnyEffect, Stop
from peerd.core.events import AnyEvent, StopAsked, Ticked
from peerd.core.node import Node, step

INBOX: Final = 1024  # events; who tells more waits, and what may be lost is told by `tell_soon`
TICK_SECONDS: Final = 1.0

_log = logging.getLogger("peerd.shell")

Perform = Callable[[AnyEffect], Awaitable[AnyEvent | None]]


class Finished(Exception):  # it is no error: it ends a task group
    """Everything is done."""


class Shell:
    """The loop around the core."""

    def __init__(
        self,
        begun: tuple[Node, Sequence[AnyEffect]],
        perform: Perform,
        clock: Callable[[], float],
        connected: Callable[[], frozenset[PeerId] | None] = lambda: None,
    ) -> None:
        self.node, self._first = begun
        self._perform, self._clock, self._connected = perform, clock, connected
        self._inbox: asyncio.Queue[AnyEvent] = asyncio.Queue(INBOX)
        self._stop_asked: StopAsked | None = None
        self._watchers: set[asyncio.Event] = set()
        self.dropped = 0
        """Events of `tell_soon` that found the inbox full."""

    async def run(self) -> str:
        """Until the core says stop; returns why. Whatever is still being performed is cancelled."""
        reason = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tick(), name="tick")
                self._start(tasks, self._first)
                while not reason:
                    event = self._stop_asked or await self._inbox.get()
                    self.node, effects = step(self.node, event)
                    reason = next((effect.reason or "asked" for effect in effects if isinstance(effect, Stop)), "")
                    self._start(tasks, effects)
                    self._wake()
                    await asyncio.sleep(0)  # a flood of events must not keep others from the loop
                raise Finished  # noqa: TRY301  # nothing else ends a task group's other tasks
        except* Finished:
            pass
        return reason

    async def tell(self, event: AnyEvent) -> None:
        """Something has happened; waits while the inbox is full."""
        await self._inbox.put(event)

    def tell_soon(self, event: AnyEvent) -> None:
        """The same for what will be told again: dropped, and counted, while the inbox is full."""
        try:
            self._inbox.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1

    def ask_to_stop(self, reason: str) -> None:
        """Goes before whatever else has happened."""
        if self._stop_asked is None:
            self._stop_asked = StopAsked(at=self._clock(), reason=reason)
            self.tell_soon(self._stop_asked)  # wakes the loop where the inbox is empty

    async def changes(self) -> AsyncIterator[None]:
        """Wakes one watcher whenever something has happened; what happens meanwhile is one wake."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            while True:
                await changed.wait()
                changed.clear()
                yield
        finally:
            self._watchers.discard(changed)

    def _start(self, tasks: asyncio.TaskGroup, effects: Sequence[AnyEffect]) -> None:
        for effect in effects:
            if isinstance(effect, Stop):
                return
            tasks.create_task(self._do(effect), name=type(effect).__name__)

    async def _do(self, effect: AnyEffect) -> None:
        event = await self._perform(effect)
        if event is not None:
            await self._inbox.put(event)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._inbox.put(Ticked(at=self._clock(), connected=self._connected()))

    def _wake(self) -> None:
        for changed in self._watchers:
            changed.set()
