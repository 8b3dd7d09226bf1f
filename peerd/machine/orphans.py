"""No orphans: children that do not outlive their parent, and no dead ones that nobody buries.

A child asks the kernel (on Linux alone) to be ended with its parent, even one that is killed: `die_with_parent`.

The first process of a container or of a pid namespace is given all whose parent died, of whatever was run beside it
(`docker exec`, a shell), and has to take their exit status, or they stay in the process table until that is full:
`bury_strangers`. It must not take the status of a child of ours, for which an event loop waits; so it asks the kernel
for one process by name and never for any, leaves those of ours out, and buries nobody at first sight: who is ours and
not yet known to be is gone by the next look.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h: the kernel signals the child when its parent dies
FIRST: Final = 1  # the process id of the first process
LOOK_SECONDS: Final = 5.0
PARENT, STATE = 1, 0  # in /proc/PID/stat, after the name, which is in brackets and may hold anything; proc(5)


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Asked by the child itself, before exec or after. It has to look itself whether its parent lived until then."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how, 0, 0, 0)


def bury_strangers(ours: Callable[[], Collection[int]], *, look_seconds: float = LOOK_SECONDS) -> bool:
    """For the rest of this process, in a thread of its own, if it is the first one; whether it is."""
    if os.getpid() != FIRST or sys.platform != "linux":
        return False
    undertaker = Undertaker(ours)
    pause = threading.Event()

    def work() -> None:
        while not pause.wait(look_seconds):
            undertaker.look()

    threading.Thread(target=work, name="undertaker", daemon=True).start()
    return True


class Undertaker:
    """Buries dead children that are not ours, at the second look."""

    def __init__(self, ours: Callable[[], Collection[int]]) -> None:
        self._ours = ours
        self._seen: set[int] = set()

    def look(self) -> list[int]:
        """Once; who was buried."""
        dead = set(dead_children(os.getpid())) - set(self._ours())
        buried = [process for process in sorted(dead & self._seen) if _bury(process)]
        self._seen = dead
        return buried


def dead_children(parent: int) -> list[int]:
    """Children of a process that have ended and whose exit status nobody has taken."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue  # it is gone
            if len(fields) > PARENT and fields[STATE] == b"Z" and int(fields[PARENT]) == parent:
                found.append(int(folder.name))
    return found


def _bury(process: int) -> bool:
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False  # somebody else was quicker
