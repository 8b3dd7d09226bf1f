"""The end of a daemon is bounded: asked once it ends in order, by force where that takes long; asked twice, at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

ORDERLY_SECONDS: Final = 14.0  # the daemon promises fifteen, whatever peers, disks and the worker do
TIDY_SECONDS: Final = 0.5  # for the socket and the worker's files
FORCED: Final = 1  # exit code

_log = logging.getLogger("peerd.ending")


class Ending:
    """Signals and the last deadline. `ask` begins an orderly stop, `kill` ends the worker; both return at once.

    `tidy` removes what an end by force would leave on disk; a disk that hangs is not waited for.
    """

    def __init__(
        self,
        ask: Callable[[str], None],
        kill: Callable[[], None],
        tidy: Callable[[], None] = lambda: None,
        *,
        leave: Callable[[int], object] = os._exit,
        orderly_seconds: float = ORDERLY_SECONDS,
    ) -> None:
        self._ask, self._kill, self._tidy, self._leave = ask, kill, tidy, leave
        self._orderly_seconds = orderly_seconds
        self._timer: threading.Timer | None = None
        self._is_over = False

    def listen(self) -> None:
        """To SIGINT and SIGTERM, in the running loop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.signalled, number)

    def ignore(self) -> None:
        """Everything has ended in time. The handlers stay until the loop closes, or a signal would end the process."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def signalled(self, number: int) -> None:
        """The first one asks, the second one does not."""
        if self._is_over:
            return
        if self._timer is not None:
            _log.warning("a second signal: leaving at once")
            self.force()
        else:
            self.begin(signal.Signals(number).name)

    def begin(self, reason: str) -> None:
        """Stop in order, and start the clock that a hanging disk, network or loop cannot stop."""
        if self._is_over:
            return
        if self._timer is None:
            self._timer = threading.Timer(self._orderly_seconds, self._too_long)
            self._timer.daemon = True
            self._timer.start()
        self._ask(reason)

    def force(self) -> None:
        """Leave without another word; the store is made for it."""
        self._kill()
        tidying = threading.Thread(target=self._tidy, name="tidy", daemon=True)
        tidying.start()
        tidying.join(TIDY_SECONDS)
        self._leave(FORCED)

    def _too_long(self) -> None:
        _log.error("not ended after %.0f s: leaving at once", self._orderly_seconds)
        self.force()
