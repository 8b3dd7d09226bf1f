"""Notices that the user's documents have changed and has the worker read them again.

A look at the names, sizes and times of a hundred thousand files takes seconds of a core, so looks are rationed: one
follows a sign from the system that something has changed (`file_signs`), one comes now and then without a sign, since
signs can be missing, and however many signs there are, looking never takes more than MAX_SHARE of a core.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from peerd.core.events import TextChanged
from peerd.daemon.link import Tell
from peerd.errors import WorkerError
from peerd.machine.apart import apart
from peerd.machine.file_signs import signs as system_signs
from peerd.status import TextNow
from peerd.worker.messages import JobFailed, ReadAgain, Reread
from peerd.worker.supervisor import Worker

LOOK_SECONDS = 30.0  # between two looks if the system gives no signs
UNTOLD_SECONDS = 300.0  # and if it does
QUIET_SECONDS = 2.0  # after a look, whatever the signs
MAX_SHARE = 0.01  # of the time may go into looking

_log = logging.getLogger("peerd.text")


class TextWatch:
    """Looks at names, sizes and times of change; only the worker opens the files."""

    def __init__(
        self,
        paths: Sequence[Path],
        worker: Worker,
        tell: Tell,
        *,
        clock: Callable[[], float],
        look: Callable[[Sequence[Path]], str],
        signs: Callable[[Sequence[Path]], AsyncIterator[None]] = system_signs,
        stopwatch: Callable[[], float] = time.monotonic,
        pause: Callable[[float, float, asyncio.Event], Awaitable[object]] | None = None,
    ) -> None:
        """`pause` is awaited between two looks: for the first number of seconds, then for a sign or the second."""
        self._paths, self._worker, self._tell, self._clock = paths, worker, tell, clock
        self._look, self._signs, self._stopwatch, self._pause = look, signs, stopwatch, pause or pause_for_a_sign
        self._sign, self._is_told = asyncio.Event(), False
        self._seen: str | None = None  # outlives a watch that failed and was begun again
        self.now = TextNow()
        """What was read of the documents the last time."""
        self.trouble = ""
        """Why the documents cannot be used as they are now; the last good reading stays in use."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="signs of changed text")
            found, cost = await self._looked()
            self._seen = self._seen or found
            while True:
                await self._pause(*pauses(cost, is_told=self._is_told), self._sign)
                self._sign.clear()  # what changes from here on is a sign for the next look
                now, cost = await self._looked()
                if now != self._seen and await self._read_again():
                    self._seen = now

    async def _listen(self) -> None:
        self._is_told = True
        async for _ in self._signs(self._paths):
            self._sign.set()
        self._is_told = False

    async def _looked(self) -> tuple[str, float]:
        """What there is, and how many seconds it took to see."""
        began = self._stopwatch()
        found = await apart(self._look, self._paths)
        return found, self._stopwatch() - began

    async def _read_again(self) -> bool:
        """Whether the worker has had a look; a dead one reads everything when it starts, and is asked again."""
        try:
            answer = await self._worker.call(Reread(id=0))
        except WorkerError:
            return False
        match answer:
            case ReadAgain(changed=True):
                self.trouble, self.now = "", answer.text
                _log.info("the text has changed: %s", "; ".join(answer.report))
                await self._tell(TextChanged(at=self._clock(), fingerprint=answer.fingerprint))
            case ReadAgain():
                self.trouble, self.now = "", answer.text
            case JobFailed():
                self.trouble = "; ".join(
                    s for s in (f"Your text has changed and cannot be used: {answer.message}", answer.hint) if s
                )
                _log.warning("%s", self.trouble)
            case _:
                raise TypeError(f"Reread was answered by {type(answer).__name__}")
        return True


def pauses(cost_seconds: float, *, is_told: bool) -> tuple[float, float]:
    """After a look of that cost: how long none follows at all, and after how long one comes without a sign."""
    least = max(QUIET_SECONDS, cost_seconds / MAX_SHARE)
    return least, max(least, UNTOLD_SECONDS if is_told else LOOK_SECONDS)


async def pause_for_a_sign(least: float, most: float, sign: asyncio.Event) -> None:
    """Sleep for `least` seconds, and then until there is a sign or `most` are over."""
    await asyncio.sleep(least)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(sign.wait(), most - least)
