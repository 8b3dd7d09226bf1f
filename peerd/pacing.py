"""How long to wait before something that failed is begun again: worker, network, tasks, and what waits for the disk.

Waiting for one's own machine needs no dice. Peers that knock at others wait by `peerd.core.dice.backoff`, with dice,
so that they do not march in step.
"""

from __future__ import annotations

import msgspec


class Pauses(msgspec.Struct, frozen=True):
    """Seconds between a death and the next start: doubled with every death, back to `first` after real work."""

    first: float = 1.0
    longest: float = 60.0

    def after(self, deaths: int) -> float:
        """The pause after so many deaths in a row."""
        return min(self.longest, self.first * 2.0 ** min(deaths - 1, 30))
