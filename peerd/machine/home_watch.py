"""Ends the daemon when the home at its path is no longer the one that it holds: deleted, replaced, or moved.

Each durable step asks the lock before (`peerd.machine.lock.HeldLock.require`); in between, and when nothing is to be
written, this watch does. To write on by the path would be to write into another home, or to make one out of nothing; so
neither a file nor a socket is touched there any more. The end is an orderly one, as that of `peerd stop`, but for the
exit code and what is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from peerd.errors import HomeGone
from peerd.machine.apart import apart
from peerd.machine.lock import HeldLock

LOOK_SECONDS: Final = 2.0

_log = logging.getLogger("peerd.home")


class HomeWatch:
    """Without a lock (tests of parts) everything is as it should be, always."""

    def __init__(self, held: HeldLock | None, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._held, self._look_seconds = held, look_seconds
        self.gone: HomeGone | None = None
        """Why the daemon ends."""

    @property
    def before(self) -> str:
        """How the run before this one ended, if that was not in order."""
        return self._held.before if self._held is not None else ""

    def listens_at(self, socket: Path) -> None:
        """The control socket is somewhere else now; the lock says where."""
        if self._held is not None:
            self._held.listens_at(socket)

    def require(self) -> None:
        """Raises HomeGone. From any thread."""
        if self._held is not None:
            self._held.require()

    def is_ours(self) -> bool:
        """Whether the daemon may still write and remove things in its home."""
        return self._held is None or self._held.is_ours()

    async def run(self, end: Callable[[str], None]) -> None:
        """Until cancelled. A disk that hangs is asked in a thread."""
        while self._held is not None:
            self.gone = await apart(self._look)
            if self.gone is not None:
                _log.error("%s", self.gone)
                end("the home is gone")
                return
            await asyncio.sleep(self._look_seconds)

    def _look(self) -> HomeGone | None:
        try:
            self.require()
        except HomeGone as error:
            return error
        return None
