"""Signs from the system that something below some folders has changed: inotify, FSEvents or what there is (watchfiles).

A sign says that a look is worth its price, and no more: what changed is found by looking. Signs can be missing, on
network file systems, behind links and where the system has no more watches to give, so their user has to look
now and then without one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

GATHER_MILLISECONDS: Final = 1000  # changes so close to one another are one sign: editors write a file in several steps

_log = logging.getLogger("peerd.text")


UNTELLABLE: Final = "Unable to decode path"  # how watchfiles begins to say that a name is no UTF-8


async def signs(paths: Sequence[Path]) -> AsyncIterator[None]:
    """One after each burst of changes below the paths; ends when the system watches nothing (any more)."""
    while True:
        try:
            async for sign in _of_one_watch(paths):
                yield sign
        except ExceptionGroup as group:  # watchfiles tells names as text: of a file with another one it only says this
            if group.subgroup(lambda error: not _is_untellable(error)) is not None:
                raise
            yield None
        else:
            return


def _is_untellable(error: BaseException) -> bool:
    return isinstance(error, ExceptionGroup) or str(error).startswith(UNTELLABLE)


async def _of_one_watch(paths: Sequence[Path]) -> AsyncIterator[None]:
    from watchfiles import awatch

    stop = asyncio.Event()
    there = [path for path in paths if path.exists()]
    if not there:
        return
    try:
        async for _ in awatch(
            *there,
            watch_filter=None,
            debounce=GATHER_MILLISECONDS,
            stop_event=stop,
            force_polling=False,  # looking at every file again and again is what this is to spare
            ignore_permission_denied=True,
        ):
            yield
    except OSError as error:  # too many folders for the watches that the system grants, or a folder that went
        _log.info("changed text is looked for now and then, since the system does not tell of it: %s", error)
    finally:
        stop.set()
