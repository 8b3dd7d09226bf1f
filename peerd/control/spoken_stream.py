"""What a model says as server-sent events: `begun`, `piece` again and again, then `ended`, or `failed`.

Nothing is said before the worker has begun, so that a question which it refuses is an error like any other, with its
HTTP status; from then on an error is the last event. The worker never waits for who reads: pieces lie here until they
are taken, which are as many as the answer has tokens. Whoever leaves, or does not read, ends the answer in the worker.

    asked --> waits for a turn --> begun --> piece --> piece ... --> ended
      |               |                        a comment now and then, while the worker does something else
      +-- refused     +-- left: cancelled      failed: the worker died, or the daemon stops
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from p2pfinetune.errors import LearningError
from p2pfinetune.speech import Begun, Ended, Piece
from peerd.control.answers import Problem
from peerd.control.event_stream import (
    BEAT_SECONDS,
    SLOW_SECONDS,
    Gone,
    Over,
    StreamEnd,
    close,
    event,
    give,
    until_gone,
    until_stopped,
)
from peerd.control.responses import problem_of, refused
from peerd.errors import NotRunning, PeerdError

Told = Begun | Piece | Ended | PeerdError | LearningError
Respond = Callable[[Callable[[Begun | Piece], None]], Awaitable[Ended]]
"""Tells what is said as it comes, and gives how it ended. Raises PeerdError; ends with its caller."""


class SpokenStream(Response):
    """Of one answer."""

    media_type = "text/event-stream"

    def __init__(
        self,
        respond: Respond,
        *,
        stop: asyncio.Event | None,
        slow_seconds: float = SLOW_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._respond, self._stop = respond, stop
        self._slow_seconds, self._beat_seconds = slow_seconds, beat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whichever task ends first ends the answer."""
        told: asyncio.Queue[Told] = asyncio.Queue()
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(until_gone(receive), name="listener gone")
                tasks.create_task(until_stopped(self._stop), name="daemon stops")
                tasks.create_task(self._ask(told), name="answer of a model")
                tasks.create_task(self._send_all(scope, receive, noted, told), name="listener")
        except* StreamEnd as ended:
            if not begun and not ended.subgroup(Gone):
                await refused(NotRunning("the daemon stops", "start it again: peerd start"))(scope, receive, send)
            elif not ended.subgroup(_Refused):
                await close(ended, scope, send, self._slow_seconds)

    async def _ask(self, told: asyncio.Queue[Told]) -> None:
        try:
            told.put_nowait(await self._respond(told.put_nowait))
        except (PeerdError, LearningError) as error:
            told.put_nowait(error)

    async def _send_all(self, scope: Scope, receive: Receive, send: Send, told: asyncio.Queue[Told]) -> None:
        next_one: Told | None = await told.get()
        if isinstance(next_one, PeerdError | LearningError):
            await refused(next_one)(scope, receive, send)
            raise _Refused
        await give(
            send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers}, self._slow_seconds
        )
        while True:
            body: Message = {"type": "http.response.body", "body": _event(next_one), "more_body": True}
            await give(send, body, self._slow_seconds)
            if isinstance(next_one, Ended | PeerdError | LearningError):
                raise Over
            next_one = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_seconds):
                    next_one = await told.get()


def _event(told: Told | None) -> bytes:
    match told:
        case None:
            return b": still here\n\n"
        case Begun():
            return event("begun", msgspec.json.encode(told))
        case Piece():
            return event("piece", msgspec.json.encode(told))
        case Ended():
            return event("ended", msgspec.json.encode(told))
        case _:
            found: Problem = problem_of(told)
            return event("failed", msgspec.json.encode(found))


class _Refused(StreamEnd):
    """It was answered as a whole."""
