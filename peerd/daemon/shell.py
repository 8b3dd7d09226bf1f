"""Feeds the pure core with events, one at a time, and has its effects performed as named tasks.

The only owner of the node. Nothing here decides anything about peers, rounds or models.

    tell, tell_soon, tick --> inbox (INBOX at most) --> step --> effects, each a task --> its answer --> inbox
                                                         |
                                                         +--> witness (flight recorder), watchers (`changes`)

This is an actor: one inbox, one owner, and events in the order in which they came. Two ways in, by what a loss costs:
`tell` waits while the inbox is full, so a flood slows down whoever brings it; `tell_soon` drops and counts what will be
told again anyway. A request to stop passes both by, or a flooded daemon could not be ended. Answers wait for room, each
in its own task, so a slow inbox holds up no performer of another effect.

No failing effect ends the daemon. What comes out of a performer is an event or, if it raised, the failure that
`failed` makes of it, so that what the core waits for always comes. Two kinds of failure leave the state in doubt and
end the daemon in order: an effect that failed while it recorded something for good (it raises Unforeseen), and an event
that the core cannot take although it waits for it. `peerd.machine.boundary` has the whole list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol

from p2pfinetune.names import PeerId
from peerd.core.effects import AnyEffect, Stop
from peerd.core.events import (
    AnyEvent,
    Assembled,
    AssemblyFailed,
    Collaborated,
    CollaborationFailed,
    Published,
    PublishFailed,
    PublishWithheld,
    StopAsked,
    Ticked,
    Trained,
    WorkerDied,
    WorkerStarted,
)
from peerd.core.node import Node, step
from peerd.errors import Unforeseen
from peerd.machine.boundary import Failures, Guarded, lasting

INBOX: Final = 1024  # events; who tells more waits, and what may be lost is told by `tell_soon`
TICK_SECONDS: Final = 1.0
LOST_TICKS: Final = 60  # in a row that the core could not take; then time stands still, and it is better to begin anew

Perform = Callable[[AnyEffect], Awaitable[AnyEvent | None]]
Failed = Callable[[AnyEffect, str], AnyEvent | None]

AWAITED: Final = (
    WorkerStarted
    | WorkerDied
    | Trained
    | Published
    | PublishFailed
    | PublishWithheld
    | Collaborated
    | CollaborationFailed
    | Assembled
    | AssemblyFailed
)
"""What the core goes on with and nobody says twice."""


class Witness(Protocol):
    """Sees every event that the core takes, in its order, and decides nothing. Never waits."""

    def takes(self, node: Node, event: AnyEvent) -> None:
        """It is about to be taken in this state."""
        ...

    def took(self, before: Node, event: AnyEvent, node: Node, effects: Sequence[AnyEffect]) -> None:
        """It was taken."""
        ...

    def raised(self, event: AnyEvent, words: str) -> None:
        """The core could not take it; the state is what it was."""
        ...


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
        *,
        failed: Failed = lambda *_: None,
        failures: Failures | None = None,
        witness: Witness | None = None,
    ) -> None:
        """`failed`: what the core is told of an effect that raised, given the reason in words."""
        self.node, self._first = begun
        self._perform, self._clock, self._connected, self._failed = perform, clock, connected, failed
        self._failures, self._witness = failures or Failures(clock), witness
        self._inbox: asyncio.Queue[AnyEvent] = asyncio.Queue(INBOX)
        self._stop_asked: StopAsked | None = None  # taken before anything that waits in the inbox
        self._watchers: set[asyncio.Event] = set()  # one for each `changes` that is being read
        self._lost_ticks = 0  # in a row
        self.dropped = 0
        """Events of `tell_soon` that found the inbox full."""
        self.end: Callable[[str], None] = self.ask_to_stop
        """How an end begins that nobody asked for."""
        self.doubt: Unforeseen | None = None
        """Why it ends, if nobody asked for it."""

    async def run(self) -> str:
        """Until the core says stop; returns why. Whatever is still being performed is cancelled."""
        reason = ""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lasting("tick", self._tick, self._failures), name="tick")
                self._start(tasks, self._first)
                while not reason:
                    reason = await self._turn(tasks)
                raise Finished  # noqa: TRY301  # nothing else ends a task group's other tasks
        except* Finished:
            pass
        return reason

    async def _turn(self, tasks: asyncio.TaskGroup) -> str:
        """One event; returns why it is the last one, empty if it is not."""
        reason = ""
        with Guarded("shell", self._failures):
            event = self._stop_asked or await self._inbox.get()
            reason, effects = self._taken(event)
            self._start(tasks, effects)
            self._wake()
            await asyncio.sleep(0)  # a flood of events must not keep others from the loop
        return reason

    def _taken(self, event: AnyEvent) -> tuple[str, Sequence[AnyEffect]]:
        """Why it is the last event, and what is to be done. An event that the core cannot take changes nothing."""
        with Guarded(f"core at {type(event).__name__}", self._failures) as guard:
            effects = self._step(event)
            self._lost_ticks = 0 if isinstance(event, Ticked) else self._lost_ticks
            return next((effect.reason or "asked" for effect in effects if isinstance(effect, Stop)), ""), effects
        if self._witness is not None:
            with Guarded("witness of the core", self._failures):
                self._witness.raised(event, guard.words)
        if isinstance(event, StopAsked):
            return event.reason or "asked", []
        self._lost_ticks += isinstance(event, Ticked)
        if isinstance(event, AWAITED) or self._lost_ticks >= LOST_TICKS:
            self._doubted(Unforeseen.of(f"core at {type(event).__name__}", guard.words))
        return "", []

    def _step(self, event: AnyEvent) -> Sequence[AnyEffect]:
        """The core takes the event; a witness that fails is left out, and changes nothing."""
        before = self.node
        if self._witness is not None:
            with Guarded("witness of the core", self._failures):
                self._witness.takes(before, event)
        self.node, effects = step(before, event)
        if self._witness is not None:
            with Guarded("witness of the core", self._failures):
                self._witness.took(before, event, self.node, effects)
        return effects

    def _doubted(self, error: Unforeseen) -> None:
        self.doubt = self.doubt or error
        self.end(str(error))

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
            self.tell_soon(self._stop_asked)  # wakes the loop if the inbox is empty

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
        """Perform it, and put its answer into the inbox whatever happens."""
        event = await self._outcome(effect)
        while event is not None:
            with Guarded(f"answer of {type(effect).__name__}", self._failures):
                await self._inbox.put(event)
                return

    async def _outcome(self, effect: AnyEffect) -> AnyEvent | None:
        with Guarded(type(effect).__name__, self._failures) as guard:
            return await self._perform(effect)
        if isinstance(guard.error, Unforeseen):
            self._doubted(guard.error)
            return None
        return self._failed(effect, guard.words)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await self._inbox.put(Ticked(at=self._clock(), connected=self._connected()))

    def _wake(self) -> None:
        for changed in self._watchers:
            changed.set()
