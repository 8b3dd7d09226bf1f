"""Looks at what the machine is short of, and says so before it is the cause of trouble: disk space and descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from peerd.errors import UsageError
from peerd.machine.apart import apart

LOOK_SECONDS: Final = 5.0
LOW_SHARE: Final = 0.1  # of a disk, free; of a limit on descriptors, left
LOW_BYTES: Final = 2 * 2**30  # of a big disk a tenth is no reason to worry
DESCRIPTORS: Final = Path("/proc/self/fd")
MIN_DESCRIPTORS: Final = 48  # with fewer a daemon alone cannot open its files, and fails here and there
GOOD_DESCRIPTORS: Final = 4096  # for a few hundred connections, and all that a user's programs may ask at one time

_log = logging.getLogger("peerd.machine")


class MachineWatch:
    """What was found at the last look, in sentences for people."""

    def __init__(self, folders: Sequence[Path], *, look_seconds: float = LOOK_SECONDS) -> None:
        self._folders, self._look_seconds = folders, look_seconds
        self.troubles: tuple[str, ...] = ()

    async def run(self) -> None:
        """Until cancelled. A disk that hangs is asked in a thread."""
        while True:
            found = await apart(self._look)
            if found and not self.troubles:
                _log.warning("%s", "; ".join(found))
            self.troubles = found
            await asyncio.sleep(self._look_seconds)

    def _look(self) -> tuple[str, ...]:
        disks = {disk_of(folder): folder for folder in reversed(self._folders)}
        found = [*map(low_disk, disks.values()), few_descriptors()]
        return tuple(sentence for sentence in found if sentence)


def disk_of(folder: Path) -> int:
    """Which disk it is on."""
    try:
        return folder.stat().st_dev
    except OSError:
        return -1


def low_disk(folder: Path) -> str:
    """A warning if little is free on the disk of a folder; if it is gone, of that which it was in."""
    try:
        disk = shutil.disk_usage(next((there for there in (folder, *folder.parents) if there.exists()), folder))
    except OSError as error:
        return f"The folder {folder} cannot be looked at: {error.strerror}"
    if disk.free >= min(LOW_SHARE * disk.total, LOW_BYTES):
        return ""
    return f"Only {disk.free / 2**20:,.0f} MiB are free on the disk of {folder}. Free some space, or training will wait"


def grant_descriptors(
    limits: tuple[int, int] | None = None, grant: Callable[[int, tuple[int, int]], None] = resource.setrlimit
) -> None:
    """Raise the limit on open files as far as is good and allowed. Raises UsageError if it is too low to run with.

    The first limit is what shells set, often low for old programs; the second is what may not be passed.
    """
    soft, hard = limits or resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = GOOD_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(GOOD_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has yet another limit below what it calls the hard one
            grant(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < MIN_DESCRIPTORS:
        raise UsageError(
            f"this process may open {soft} files and connections, and a daemon needs {MIN_DESCRIPTORS} at the least",
            f"raise the limit and start again: ulimit -n {GOOD_DESCRIPTORS}",
        )


def few_descriptors() -> str:
    """A warning if few files and connections more can be opened."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        open_now = sum(1 for _ in DESCRIPTORS.iterdir())
    except FileNotFoundError:  # no Linux
        return ""
    except OSError:
        open_now = limit
    if open_now < (1 - LOW_SHARE) * limit:
        return ""
    return f"{open_now} of {limit} file descriptors are open. Raise the limit (ulimit -n) and start again"
