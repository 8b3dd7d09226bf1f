"""How far a collaboration is, in adapters measured, for those who watch it.

The unit is one adapter over one split, which is where a round's time goes. How many a scheme will ask for is not known
beforehand, so the total is that of a scheme that measures each neighbour once, and the count never runs past it.
"""

from __future__ import annotations

from collections.abc import Callable


class RoundProgress:
    """Counts adapters measured; a scheme may need fewer runs than there are adapters, so the end is told apart."""

    def __init__(self, tell: Callable[[int, int], None] | None, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def advance(self) -> None:
        """One more adapter was measured."""
        self._done = min(self._done + 1, self._total)
        if self._tell is not None:
            self._tell(self._done, self._total)

    def finish(self) -> None:
        """Nothing more will be."""
        self._done = self._total
        if self._tell is not None:
            self._tell(self._done, self._total)
