"""The end of a daemon is bounded: asked once it ends in order, by force if that takes long; asked twice, at once.

One wish often comes as two signals: `timeout` sends its own to the process and then to the group of processes, and a
Ctrl-C goes to a supervisor, which passes it on, and to us. What comes within a second of the first is the first.

    running -- asked --> ending, ORDERLY_SECONDS -- done --> over (exit code of the run)
                            |   asked again, not an echo -----------------> by force: worker killed, tidied, exit code 1
                            |   the time is over -------------------------> by force

The deadline is a timer in a thread and not a task, since what hangs may be the loop itself.

A terminal that closes (SIGHUP) asks, and never twice: its shell and the kernel both send the signal. Where it is
ignored when we start, as `nohup` and `--detach` leave it, it stays ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

ORDERLY_SECONDS: Final = 14.0  # the daemon promises fifteen, whatever peers, disks and the worker do
TIDY_SECONDS: Final = 0.5  # for the socket and the worker's files
ECHO_SECONDS: Final = 1.0
FORCED: Final = 1  # exit code

_log = logging.getLogger("peerd.ending")


def asked_by() -> tuple[signal.Signals, ...]:
    """Signals that ask this process to end."""
    hangs_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGINT, signal.SIGTERM, *hangs_up)


@contextlib.contextmanager
def deaf_to_hangups() -> Iterator[None]:
    """A child started meanwhile ignores the end of the terminal, and so does this process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


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
        clock: Callable[[], float] = time.monotonic,
        orderly_seconds: float = ORDERLY_SECONDS,
    ) -> None:
        self._ask, self._kill, self._tidy, self._leave = ask, kill, tidy, leave
        self._clock, self._orderly_seconds = clock, orderly_seconds
        self._signalled_at: float | None = None
        self._timer: threading.Timer | None = None
        self._is_over = False

    def listen(self) -> None:
        """To SIGINT, SIGTERM and SIGHUP, in the running loop."""
        for number in asked_by():
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
        first, self._signalled_at = self._signalled_at, self._signalled_at or self._clock()
        if self._timer is not None:
            is_echo = first is not None and self._clock() - first < ECHO_SECONDS
            if number != signal.SIGHUP and not is_echo:
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
