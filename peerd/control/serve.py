"""Serve an application over a Unix socket that is ours alone, inside the event loop that is running.

    stop = asyncio.Event()
    await serve(application(view), paths.socket, stop)     # returns when `stop` is set and every answer is out

uvicorn does the HTTP, and nothing else: the socket is bound here (its own way would open it to everybody), its signal
handlers, lifespan, logs and web sockets are off. A connection of another user is closed before a byte is read.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from peerd.control.credentials import peer_pid, peer_uid
from peerd.control.door import Door
from peerd.control.places import MAX_CONNECTIONS, PATIENCE_SECONDS, Place
from peerd.control.seats import CALLER

MAX_HEADER_BYTES = 16 * 1024
LAST_ANSWERS_SECONDS = 2  # given to requests that are being answered when the daemon stops


class OwnerOnly(Place):
    """HTTP for the user who runs the daemon, and nobody else."""

    def is_welcome(self) -> bool:
        """Ask the kernel who calls."""
        connection = self.transport.get_extra_info("socket")
        self.app_state = {**self.app_state, CALLER: peer_pid(connection)}
        uid = peer_uid(connection)
        if uid is None or uid == os.getuid():
            return True
        logging.getLogger(__name__).warning("refused a connection to the control socket by user %d", uid)
        return False


async def serve(
    app: Starlette, at: Door | Path, stop: asyncio.Event, *, ready: Callable[[], None] | None = None
) -> None:
    """Bind the socket and answer until `stop`; `ready` is called once connections are accepted.

    Raises AlreadyRunning if something answers on that socket, StoreError if it cannot be bound.
    """
    door = at if isinstance(at, Door) else Door(at)
    listener = door.open()
    try:
        server = _server(app, stop, OwnerOnly, ready)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(door.watch(server.listen_instead), name="watch of the control socket")
            await server.answer(listener)
            watch.cancel()
    finally:
        listener.close()
        door.close()


async def serve_on(
    listener: socket.socket,
    app: Starlette,
    stop: asyncio.Event,
    *,
    http: type[asyncio.Protocol] = Place,
    ready: Callable[[], None] | None = None,
) -> None:
    """Answer on a bound socket until `stop`."""
    await _server(app, stop, http, ready).answer(listener)


def _server(
    app: Starlette, stop: asyncio.Event, http: type[asyncio.Protocol], ready: Callable[[], None] | None
) -> _Server:
    """Watchers of event streams learn of the stop from `app.state.stop`."""
    app.state.stop = stop
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=MAX_CONNECTIONS,
        timeout_keep_alive=round(PATIENCE_SECONDS),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
    )
    return _Server(config, stop, ready)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers and its clock: it ends when told."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event, ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._stop, self._ready = stop, ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        """Instead of looking ten times a second whether to end."""
        if self._ready is not None:
            self._ready()
        await self._stop.wait()

    async def answer(self, listener: socket.socket) -> None:
        """Until it is told to end."""
        try:
            await self.serve(sockets=[listener])
        finally:
            for accepting in getattr(self, "servers", ()):  # if it failed, nobody else closes them
                accepting.close()

    async def listen_instead(self, listener: socket.socket) -> None:
        """On another socket than before; who is connected stays so."""

        def protocol() -> asyncio.Protocol:  # as uvicorn makes them in its `startup`
            made: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
            return made(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, sock=listener, backlog=MAX_CONNECTIONS)
        for before in self.servers:
            before.close()
        self.servers = [server]


def loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 lets the system choose. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(MAX_CONNECTIONS)
    except OSError:
        listener.close()
        raise
    return listener
