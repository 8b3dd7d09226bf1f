"""One TCP proxy with an event loop in a thread of its own, so that tests with any loop, or with none, can use it.

Every method may be called from any thread. What is set holds for the connections of now and for those to come, but
for `cut` and `vanish`, which are about those of now.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

CHUNK_BYTES = 16 * 1024
UNDER_WAY = 1024  # chunks of a connection that a delay holds back, each way


@dataclass
class Way:
    """One direction of the link, all its connections together."""

    bytes: int = 0
    """That were passed on."""
    free_at: float = 0.0
    """When the throttled line has sent what it was given."""


class Proxy:
    """Listens in front of `target`; `up` is towards it, `down` comes from it."""

    def __init__(self, target: tuple[str, int], listen: tuple[str, int] = ("127.0.0.1", 0), *, seed: int = 0) -> None:
        self.target, self.listen = target, listen
        self.port = listen[1]
        self.up, self.down = Way(), Way()
        self.connections = 0
        """Accepted so far."""
        self._dice = random.Random(seed)
        self._delay, self._jitter, self._rate = 0.0, 0.0, math.inf
        self._budget = math.inf
        self._thread = threading.Thread(target=self._run, name="link with faults", daemon=True)
        self._ready = threading.Event()
        self._links: set[_Link] = set()

    # --- life -------------------------------------------------------------------------------------------------------

    def start(self) -> Proxy:
        """Listen. `port` is known afterwards."""
        self._thread.start()
        self._ready.wait(30)
        return self

    def stop(self) -> None:
        """Close everything."""
        with contextlib.suppress(RuntimeError):  # it was stopped before
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def address(self, peer: str) -> str:
        """What a libp2p peer behind the link is dialled by."""
        return f"/ip4/{self.listen[0]}/tcp/{self.port}/p2p/{peer}"

    # --- faults -----------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Close every connection of now at both ends. New ones are accepted."""
        self._do(lambda: [link.abort() for link in list(self._links)])

    def cut_after(self, count: int) -> None:
        """Cut after so many more bytes, both ways together."""
        self._do(lambda: setattr(self, "_budget", count))

    def vanish(self) -> None:
        """Nothing passes any more over the connections of now, and nobody is told; new ones are as good as ever."""
        self._do(lambda: [link.flows.clear() for link in self._links])

    def pause(self, seconds: float = math.inf) -> None:
        """Nothing passes for so long, over old connections and new; then all of it does."""
        self._do(lambda: self._pause(seconds))

    def resume(self) -> None:
        """End a pause."""
        self._do(self._flows.set)

    def delay(self, seconds: float, jitter: float = 0.0) -> None:
        """Bytes arrive so much later each way, give or take `jitter`, and in order, as TCP has it."""
        self._do(lambda: self.__dict__.update(_delay=seconds, _jitter=jitter))

    def rate(self, bytes_per_second: float = math.inf) -> None:
        """At most so many each way, all connections together."""
        self._do(lambda: setattr(self, "_rate", bytes_per_second))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _do(self, fault: Callable[[], object]) -> None:
        """In the thread of the loop, done when this returns."""
        done = threading.Event()

        def run() -> None:
            fault()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(30)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping, self._flows = asyncio.Event(), asyncio.Event()
        self._flows.set()
        server = await asyncio.start_server(self._accept, *self.listen)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for link in list(self._links):
            link.abort()
            await link.done.wait()

    def _pause(self, seconds: float) -> None:
        self._flows.clear()
        if seconds < math.inf:
            self._loop.call_later(seconds, self._flows.set)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, writer)
        self._links.add(link)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self.target)
            link.writers.append(far_writer)
            await link.carry((reader, far_writer, self.up), (far_reader, writer, self.down))
        except OSError:  # nobody listens there, or one end is gone
            pass
        finally:
            link.abort()
            self._links.discard(link)
            link.done.set()

    async def passed(self, link: _Link, way: Way, data: bytes) -> bytes:
        """Wait until this may go on; what of it may. Less than all means that the link is cut after it."""
        await self._flows.wait()
        await link.flows.wait()
        if self._rate < math.inf:
            now = self._loop.time()
            way.free_at = max(way.free_at, now) + len(data) / self._rate
            await asyncio.sleep(way.free_at - now)
            await self._flows.wait()
            await link.flows.wait()
        may = data[: int(min(self._budget, len(data)))]
        self._budget -= len(may)
        way.bytes += len(may)
        return may

    def chunk(self) -> int:
        """Bytes read at a time: a throttled line is smooth."""
        return int(max(64, min(CHUNK_BYTES, self._rate / 20)))

    def arrival(self, after: float) -> float:
        """When what is read now arrives; never before what was read earlier."""
        return max(after, self._loop.time() + self._delay + self._dice.uniform(-self._jitter, self._jitter))

    def spent(self) -> None:
        """The budget of `cut_after` is used up."""
        self._budget = math.inf
        for link in list(self._links):
            link.abort()


Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter, Way]


class _Link:
    """One connection and its far half."""

    def __init__(self, proxy: Proxy, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.writers = proxy, [writer]
        self.done, self.flows = asyncio.Event(), asyncio.Event()
        self.flows.set()
        self._tasks: list[asyncio.Task[None]] = []

    def abort(self) -> None:
        for task in self._tasks:
            task.cancel()
        for writer in self.writers:
            writer.transport.abort()

    async def carry(self, *pipes: Pipe) -> None:
        for pipe in pipes:
            queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(UNDER_WAY)
            self._tasks.append(asyncio.create_task(self._read(pipe[0], queue), name="read"))
            self._tasks.append(asyncio.create_task(self._write(queue, pipe[1], pipe[2]), name="write"))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        arrives = 0.0
        while True:
            try:
                data = await reader.read(self.proxy.chunk())
            except OSError:
                data = b""
            arrives = self.proxy.arrival(arrives)
            await queue.put((arrives, data))
            if not data:
                return

    async def _write(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, way: Way) -> None:
        with contextlib.suppress(OSError):
            while True:
                arrives, data = await queue.get()
                await asyncio.sleep(arrives - asyncio.get_running_loop().time())
                may = await self.proxy.passed(self, way, data)
                if not data:
                    writer.close()
                    return
                writer.write(may)
                await writer.drain()
                if len(may) < len(data):
                    self.proxy.spent()
                    return
