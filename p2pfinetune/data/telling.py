"""How far a reading is, for whoever waits: a function that is called often and decides itself what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Tell = Callable[[str, int, int], None]
"""What is done, how much of it is done, and how much there is; 0 if nobody knows yet. It may raise, to end it all."""

FINDING, READING, ENCODING = "finding files", "reading files", "counting tokens"
COMPARING, WRITING = "comparing documents", "writing tokens"
Item = TypeVar("Item")


def silent(what: str, done: int, total: int) -> None:
    """Nobody waits."""


def each(items: Iterable[Item], tell: Tell, what: str, total: int = 0) -> Iterator[Item]:
    """The items, told one by one."""
    done = 0
    for item in items:
        tell(what, done, total)
        yield item
        done += 1
    tell(what, done, done)
