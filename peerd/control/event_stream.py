"""Server-sent events: the whole snapshot first, then again whenever it changed; who does not read is dropped.

Nothing is queued for a watcher: it is woken, and what it then gets is the snapshot of that moment. So a slow one costs
one snapshot of memory, and a fast change never more than one message per interval.

Whole snapshots and no deltas: a watcher that missed some, or came late, needs no way to catch up, and the page has one
function of one document. A snapshot is some kilobytes; at four a second that is nothing on a socket of this machine.

    snapshot --> sent --> INTERVAL_SECONDS --> woken by a change --> differs? --> sent ...
                   |                            BEAT_SECONDS without one: a comment, so that a dead end is noticed
                   +-- not taken within SLOW_SECONDS: cut    watcher leaves, daemon stops: ended
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

INTERVAL_SECONDS = 0.25  # between two snapshots to one watcher; a person sees no more
BEAT_SECONDS = 15.0  # a comment now and then, so that both ends notice when the other has gone
SLOW_SECONDS = 10.0  # a watcher whose buffers stay full for so long is dropped
MAX_WATCHERS = 16
MAX_WATCHERS_OF_ONE = 8  # process; the tabs of a browser come through that of the dashboard
ABORT = "abort"  # the key of `scope["state"]` under which the server offers to cut the connection


def event(name: str, data: bytes) -> bytes:
    """One event on the wire.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """Sends snapshots (one line of JSON each) until the watcher leaves, reads too slowly, or the daemon stops."""

    media_type = "text/event-stream"

    def __init__(
        self,
        name: str,
        snapshot: Callable[[], bytes],
        changes: AsyncIterator[None],
        *,
        stop: asyncio.Event | None,
        interval_seconds: float = INTERVAL_SECONDS,
        slow_seconds: float = SLOW_SECONDS,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._name, self._snapshot, self._changes, self._stop = name, snapshot, changes, stop
        self._interval_seconds, self._slow_seconds, self._beat_seconds = interval_seconds, slow_seconds, beat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whichever task ends first ends the stream."""
        changed = asyncio.Event()
        changed.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(until_gone(receive), name="watcher gone")
                tasks.create_task(until_stopped(self._stop), name="daemon stops")
                tasks.create_task(self._listen(changed), name="changes for a watcher")
                tasks.create_task(self._send_all(send, changed), name="watcher")
        except* StreamEnd as ended:
            await close(ended, scope, send, self._slow_seconds)

    async def _send_all(self, send: Send, changed: asyncio.Event) -> None:
        start: Message = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await give(send, start, self._slow_seconds)
        sent = b""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._beat_seconds):
                    await changed.wait()
            message = b": still here\n\n"
            if changed.is_set():
                changed.clear()
                now = self._snapshot()
                message, sent = (b"" if now == sent else event(self._name, now)), now
            if message:
                body: Message = {"type": "http.response.body", "body": message, "more_body": True}
                await give(send, body, self._slow_seconds)
                await asyncio.sleep(self._interval_seconds)

    async def _listen(self, changed: asyncio.Event) -> None:
        async for _ in self._changes:
            changed.set()
        raise Over


class StreamEnd(Exception):  # not an error: it ends a task group
    """The stream is over."""


class Gone(StreamEnd):
    """The watcher left."""


class Slow(StreamEnd):
    """The watcher does not read."""


class Over(StreamEnd):
    """The daemon stops, or has no more to say."""


async def give(send: Send, message: Message, slow_seconds: float) -> None:
    """The server's `send` waits while the buffers of the connection are full. Raises Slow."""
    try:
        async with asyncio.timeout(slow_seconds):
            await send(message)
    except TimeoutError:
        raise Slow from None


async def until_gone(receive: Receive) -> None:
    """Raises Gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    raise Gone


async def until_stopped(stop: asyncio.Event | None) -> None:
    """Raises Over, if there is a stop."""
    if stop is not None:
        await stop.wait()
        raise Over


async def close(ended: BaseExceptionGroup[StreamEnd], scope: Scope, send: Send, slow_seconds: float) -> None:
    """The end of an answer that had begun, unless nobody is there to take it."""
    if ended.subgroup(Slow):
        scope.get("state", {}).get(ABORT, _nothing)()
    elif not ended.subgroup(Gone):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(slow_seconds):
                await send({"type": "http.response.body", "body": b"", "more_body": False})


def _nothing() -> None:
    """The server does not offer to cut the connection."""
