"""Notices that the user's documents have changed and has the worker read them again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from peerd.apart import apart
from peerd.core.events import TextChanged
from peerd.errors import WorkerError
from peerd.network import Tell
from peerd.worker.messages import JobFailed, ReadAgain, Reread
from peerd.worker.parent import Worker

LOOK_SECONDS = 30.0

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
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._paths, self._worker, self._tell, self._clock = paths, worker, tell, clock
        self._look, self._look_seconds = look, look_seconds
        self._seen: str | None = None
        self.trouble = ""
        """Why the documents cannot be used as they are now; the last good reading stays in use."""

    async def run(self) -> None:
        """Until cancelled."""
        if self._seen is None:
            self._seen = await apart(self._look, self._paths)
        while True:
            await asyncio.sleep(self._look_seconds)
            now = await apart(self._look, self._paths)
            if now != self._seen and await self._read_again():
                self._seen = now

    async def _read_again(self) -> bool:
        """Whether the worker has had a look; a dead one reads everything when it starts, and is asked again."""
        try:
            answer = await self._worker.call(Reread(id=0))
        except WorkerError:
            return False
        match answer:
            case ReadAgain(changed=True):
                self.trouble = ""
                _log.info("the text has changed: %s", "; ".join(answer.report))
                await self._tell(TextChanged(at=self._clock(), fingerprint=answer.fingerprint))
            case ReadAgain():
                self.trouble = ""
            case JobFailed():
                self.trouble = f"Your text has changed and cannot be used: {answer.message}. {answer.hint}".strip()
                _log.warning("%s", self.trouble)
            case _:
                raise TypeError(f"Reread was answered by {type(answer).__name__}")
        return True
