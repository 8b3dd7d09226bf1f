"""How far a collaboration is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable


class Progress:
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
