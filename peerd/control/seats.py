"""So many at a time of what takes long, and of one caller so many of them: no single script uses up what all share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

CALLER = "caller"  # the key of `scope["state"]` under which the server says which process asks


class Seats:
    """So many at a time, and of one caller so many of them."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most, self._of_one = most, of_one
        self._held: Counter[Any] = Counter()

    def take(self, caller: Hashable) -> bool:
        """Whether there is room; then it has to be given back."""
        if self._held.total() >= self._most or self._held[caller] >= self._of_one:
            return False
        self._held[caller] += 1
        return True

    def give_back(self, caller: Hashable) -> None:
        self._held[caller] -= 1
        self._held += Counter()  # forgets who holds none
