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
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from peerd.credentials import peer_pid, peer_uid
from peerd.errors import AlreadyRunning, StoreError
from peerd.faults import around
from peerd.paths import make_private
from peerd.places import MAX_CONNECTIONS, PATIENCE_SECONDS, Place
from peerd.shares import CALLER
from peerd.unfit import lacks

PRIVATE_UMASK = 0o177  # a socket is made with mode 0600, not narrowed to it a moment later
MAX_HEADER_BYTES = 16 * 1024
LAST_ANSWERS_SECONDS = 2  # given to requests that are being answered when the daemon stops
DIAL_SECONDS = 1.0


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
    app: Starlette, socket_path: Path, stop: asyncio.Event, *, ready: Callable[[], None] | None = None
) -> None:
    """Bind `socket_path` and answer until `stop`; `ready` is called once connections are accepted.

    Raises AlreadyRunning where something answers on that socket, StoreError where it cannot be bound.
    """
    listener = bind(socket_path)
    mine = _inode(socket_path)
    try:
        await serve_on(listener, app, stop, http=OwnerOnly, ready=ready)
    finally:
        listener.close()
        _remove(socket_path, mine)


async def serve_on(
    listener: socket.socket,
    app: Starlette,
    stop: asyncio.Event,
    *,
    http: type[asyncio.Protocol] = Place,
    ready: Callable[[], None] | None = None,
) -> None:
    """Answer on a bound socket until `stop`. Watchers of event streams learn of the stop from `app.state.stop`."""
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
    server = _Server(config, stop, ready)
    try:
        await server.serve(sockets=[listener])
    finally:
        for accepting in getattr(server, "servers", ()):  # where it failed, nobody else closes them
            accepting.close()


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


def bind(path: Path) -> socket.socket:
    """A listening socket of mode 0600 in a folder of mode 0700; a dead one is dialled first, then removed."""
    make_private(path.parent)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(PRIVATE_UMASK)
    try:
        with around("start.socket"):
            listener.bind(str(path))
            listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        if (unfit := lacks(path.parent, "sockets", error)) is not None:
            raise unfit from error
        raise StoreError(f"cannot make the socket {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise StoreError(f"{path} is in the way: it is not a socket", f"move it away: mv {path} {path}.old")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(DIAL_SECONDS)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise AlreadyRunning(f"something holds the socket {path} and does not answer ({error})") from error
    raise AlreadyRunning(f"a daemon answers on {path} already", "see it with: peerd status")


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except FileNotFoundError:
        return None


def _remove(path: Path, inode: int | None) -> None:
    """Only the socket that we made; a successor may have put its own in the same place."""
    if inode is not None and _inode(path) == inode:
        path.unlink(missing_ok=True)


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
