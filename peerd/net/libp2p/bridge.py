"""A trio program in its own thread, called from asyncio. It knows nothing of networks.

py-libp2p is written for trio and the daemon for asyncio (on uvloop if there is one). Guest mode on the asyncio loop was
measured too: slower for each request, and a callback that blocks the loop would stop libp2p with it. Here a hang or
crash of either side is seen from the other (ADR 0003).

    asyncio                                             trio
    call(function) --- run_sync_soon: start a task ---> function runs in the nursery
       await answer <-- call_soon_threadsafe: settle -- its value or exception
       cancelled    --- run_sync_soon: scope.cancel --> cancelled
    function runs  <--- run_coroutine_threadsafe ------ call_back(function)

    made -- start() --> running -- stop(): asked, 80 % of the time; cancelled, 20 % --> closed, or left behind
                           |
                           +-- the program ends or dies by itself -----------------> closed, with its exception

Invariant: whatever happens to the thread, every call that waits is settled (`_ended` settles what is left), so nobody
on the loop waits for a thread that is gone. Nothing is shared but what is made for it: futures are touched on the loop,
trio objects in the thread. A thread that does not end is a daemon thread: it does not keep the process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent import futures
from contextlib import suppress
from typing import Any, TypeVar

import outcome
import trio

from peerd.net.libp2p.guard import contained

Result = TypeVar("Result")


class BridgeClosed(RuntimeError):
    """The trio side is not running."""


Main = Callable[..., Awaitable[None]]
"""The trio program: gets a `trio.Event` that asks it to stop, and calls `task_status.started()` when it is ready."""


class Bridge:
    """Made and used on one asyncio loop; `closed` is done when the trio side has ended, with its exception if any."""

    closed: asyncio.Future[None]

    def __init__(self, main: Main, name: str) -> None:
        self._main = main
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._pending: set[asyncio.Future[Any]] = set()
        """Answers that somebody on the loop waits for."""
        self._closing = False
        self._token: trio.lowlevel.TrioToken
        self._stopping: trio.Event
        self._nursery: trio.Nursery
        self._scope = trio.CancelScope()

    async def start(self) -> Any:
        """What the program passed to `task_status.started()`; raises what it died of before that."""
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()
        self._ready: asyncio.Future[Any] = self._loop.create_future()
        self._thread.start()
        try:
            await asyncio.wait({self._ready, self.closed}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._closing = True
            self._to_trio(self._scope.cancel)
            raise
        if self._ready.done():
            return self._ready.result()
        raise self.closed.exception() or BridgeClosed("the program ended before it was ready")

    async def call(self, function: Callable[..., Awaitable[Result]], *arguments: Any) -> Result:
        """Run `function(*arguments)` as a trio task. Cancelling this cancels that; exceptions come back."""
        if self._closing or self.closed.done():
            raise BridgeClosed("the network thread is not running")
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._pending.add(answer)
        scope = trio.CancelScope()
        try:
            self._to_trio(self._start_task, answer, scope, function, arguments)
            return await answer
        except asyncio.CancelledError:
            self._to_trio(scope.cancel)
            raise
        finally:
            self._pending.discard(answer)

    async def call_back(self, function: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any) -> Result:
        """The other way: run `function(*arguments)` on the asyncio loop, from a trio task. The same holds.

        Raises BridgeClosed if that loop is closed.
        """
        over, token = trio.Event(), trio.lowlevel.current_trio_token()
        call = function(*arguments)
        try:
            answer = asyncio.run_coroutine_threadsafe(call, self._loop)
        except RuntimeError as error:
            call.close()
            raise BridgeClosed("the loop is closed") from error
        answer.add_done_callback(lambda _: _wake(token, over))
        try:
            await over.wait()
        finally:
            answer.cancel()  # of no effect once it is done
        try:
            return answer.result()
        except futures.CancelledError as error:
            raise BridgeClosed("cancelled on the loop") from error

    async def stop(self, timeout_seconds: float) -> bool:
        """Ask the program to end, cancel it if it takes too long; False if the thread has to be left behind."""
        self._closing = True
        for way, share in ((self._ask_to_stop, 0.8), (self._scope.cancel, 0.2)):
            if not self.closed.done():
                self._to_trio(way)
                await asyncio.wait({self.closed}, timeout=share * timeout_seconds)
        return self.closed.done()

    def _ask_to_stop(self) -> None:
        self._stopping.set()

    def _start_task(
        self,
        answer: asyncio.Future[Result],
        scope: trio.CancelScope,
        function: Callable[..., Awaitable[Result]],
        arguments: tuple[Any, ...],
    ) -> None:
        async def task() -> None:
            result: outcome.Outcome[Result] = outcome.Error(BridgeClosed("the network thread is stopping"))
            try:
                with scope, contained() as held:  # the thread's border: it is raised again on the other side
                    result = outcome.Value(await function(*arguments))
                if held.failure is not None:
                    result = outcome.Error(held.failure)
            finally:
                self._to_asyncio(_settle, answer, result)

        self._nursery.start_soon(task)

    def _run(self) -> None:
        result = outcome.capture(trio.run, self._trio_main)
        self._to_asyncio(self._ended, result)

    async def _trio_main(self) -> None:
        self._token, self._stopping = trio.lowlevel.current_trio_token(), trio.Event()
        if self._closing:
            return
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                ready = await self._nursery.start(self._run_main)
                self._to_asyncio(_settle, self._ready, outcome.Value(ready))

    async def _run_main(self, *, task_status: Any) -> None:
        await self._main(self._stopping, task_status=task_status)
        self._scope.cancel()  # calls that are still under way

    def _ended(self, result: outcome.Outcome[None]) -> None:
        self._closing = True
        for answer in list(self._pending):
            _settle(answer, outcome.Error(BridgeClosed("the network thread ended")))
        _settle(self.closed, result)
        self.closed.exception()  # seen: whoever supervises reads it, and asyncio need not complain if nobody does

    def _to_trio(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self._token.run_sync_soon(lambda: function(*arguments))
        except (trio.RunFinishedError, AttributeError):  # ended, or not yet begun; `closed` tells
            return

    def _to_asyncio(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:  # the loop is closed, so nobody is waiting
            return


def _wake(token: trio.lowlevel.TrioToken, over: trio.Event) -> None:
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(over.set)


def flatten(error: BaseException) -> BaseException:
    """A group of one exception is that exception; trio's nurseries always wrap."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _settle(answer: asyncio.Future[Any], result: outcome.Outcome[Any]) -> None:
    if answer.done():
        return
    if isinstance(result, outcome.Value):
        answer.set_result(result.value)
    elif isinstance(result, outcome.Error):
        answer.set_exception(flatten(result.error))
