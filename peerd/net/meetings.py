"""Who was met and could not be joined: a count and a time for each of a few kinds, whoever it was. Any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from peerd.net.transport import Met


class Meetings:
    """Of one back end. Kinds are fixed words of ours, so there are no more of them than code names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: dict[str, tuple[int, float]] = {}

    def note(self, kinds: Iterable[str]) -> None:
        """Somebody of these kinds, now."""
        with self._lock:
            for kind in kinds:
                self._seen[kind] = (self._seen.get(kind, (0, 0.0))[0] + 1, self._clock())

    def now(self) -> dict[str, Met]:
        with self._lock:
            return {kind: Met(times, max(0.0, self._clock() - at)) for kind, (times, at) in self._seen.items()}

    def counts(self) -> dict[str, int]:
        return {f"met-{kind}": found.times for kind, found in self.now().items()}
