"""The control socket of a daemon: bound, looked after while it serves, and removed at the end.

A socket is a name in a folder, and names go: with the folder of a login when its user logs out, by whatever tidies
temporary folders, by hand. The daemon would run on and nobody could ask it. So the name is looked at every two
seconds; if it no longer stands for our socket another one is bound there, or in a spare place if that cannot be,
and the lock tells clients which. Clients that are connected stay so.

    bound at the path --- looked at, every two seconds: still ours ---> bound
          |  gone, or another's
          +--> bound again at the path --- cannot be ---> bound in a spare place --- neither ---> tried again later
          |  the home is no longer ours: nothing is bound any more
          end: removed, if it is still ours

A socket at the path that answers is somebody's and is left alone; one that does not is what a killed daemon left.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from peerd.control.places import MAX_CONNECTIONS
from peerd.errors import AlreadyRunning, PeerdError, StoreError, UsageError
from peerd.machine.faults import around
from peerd.machine.paths import make_private
from peerd.machine.unfit import lacks

PRIVATE_UMASK: Final = 0o177  # a socket is made with mode 0600, not narrowed to it a moment later
DIAL_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 2.0

_log = logging.getLogger("peerd.door")


class Door:
    """`may`: whether the home is still ours; `moved` is told where the socket is now, when that is somewhere else.

    `prepare` makes the folder of a socket fit: ours alone, unless a person named the place.
    """

    def __init__(
        self,
        path: Path,
        *,
        spare: Path | None = None,
        may: Callable[[], bool] = lambda: True,
        moved: Callable[[Path], None] = lambda _: None,
        look_seconds: float = LOOK_SECONDS,
        prepare: Callable[[Path], None] = make_private,
    ) -> None:
        self._path, self._places = path, [path, *([spare] if spare is not None and spare != path else [])]
        self._may, self._moved, self._look_seconds, self._prepare = may, moved, look_seconds, prepare
        self._mine: tuple[int, int] | None = None
        self.was_open = False
        """Whether it was ours once."""

    def open(self) -> socket.socket:
        """The first time. Raises AlreadyRunning if something answers there, StoreError if it cannot be bound."""
        listener = bind(self._path, self._prepare)
        self._mine, self.was_open = _which(self._path), True
        return listener

    def is_there(self) -> bool:
        """Whether the name stands for our socket."""
        return self._mine is not None and _which(self._path) == self._mine

    async def watch(self, listen: Callable[[socket.socket], Awaitable[None]]) -> None:
        """Until cancelled."""
        told = ""
        while True:
            await asyncio.sleep(self._look_seconds)
            if self.is_there() or not self._may():
                continue
            try:
                await listen(self._again())
            except PeerdError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("the control socket %s is gone and cannot be made again yet: %s", self._path, error)
            else:
                told = ""
                _log.warning("the control socket was gone; it is made again at %s", self._path)

    def close(self) -> None:
        """Remove only what we made; a successor may have put its own in the same place."""
        if self.is_there():
            self._path.unlink(missing_ok=True)
        self._mine = None

    def _again(self) -> socket.socket:
        """At the first place that takes one. Raises PeerdError, of the first."""
        troubles = []
        for place in self._places:
            try:
                listener = bind(place, self._prepare)
            except PeerdError as error:
                troubles.append(error)
                continue
            if place != self._path:
                self._path = place
                self._moved(place)
            self._mine = _which(place)
            return listener
        raise troubles[0]


def as_it_is(folder: Path) -> None:
    """Leave a folder that a person named: their home, /tmp, a project's. The socket's own mode keeps others out.

    Raises UsageError if there is none.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder} for the socket", f"make it: mkdir -p {shlex.quote(str(folder))}")


def bind(path: Path, prepare: Callable[[Path], None] = make_private) -> socket.socket:
    """A listening socket of mode 0600 in a folder of mode 0700; a dead one is dialled first, then removed."""
    prepare(path.parent)
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


def _which(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
