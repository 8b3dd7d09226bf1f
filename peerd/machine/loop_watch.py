"""How long the event loop was held: CPU time of its thread, and wall-clock lag. Measures; blames nobody.

A beat is scheduled every 25 ms. The CPU time that the loop's thread used between two beats bounds its longest callback
from above: were every callback short, the next beat would have come in time. Lag also counts what other processes took.
"""

from __future__ import annotations

import asyncio
import time

from peerd.status import LoopNow

BEAT_SECONDS = 0.025  # 40 beats a second cost well under one percent of a core


class LoopWatch:
    """Run in the loop it watches."""

    def __init__(self) -> None:
        self._cpu_seconds = self._lag_seconds = 0.0

    async def run(self) -> None:
        while True:
            began, cpu = time.monotonic(), time.thread_time()
            await asyncio.sleep(BEAT_SECONDS)
            self._cpu_seconds = max(self._cpu_seconds, time.thread_time() - cpu)
            self._lag_seconds = max(self._lag_seconds, time.monotonic() - began - BEAT_SECONDS)

    def now(self) -> LoopNow:
        """The worst since the start."""
        return LoopNow(
            max_callback_cpu_ms=round(1000 * self._cpu_seconds, 1), max_lag_ms=round(1000 * self._lag_seconds, 1)
        )
