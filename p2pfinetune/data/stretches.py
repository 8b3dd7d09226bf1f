"""How a conversation is read in pieces of the context's length: whole exchanges, with no answer cut that fits.

An answer is a run of counted tokens, and an exchange is an answer with all that stands between it and the answer
before: the question, results of tools, the head of the turn. A stretch holds as many exchanges as fit one behind the
other, so that a conversation that fits is one stretch. If a single exchange does not fit, its question loses the
beginning and not its answer the end; only an answer longer than the context is cut, into windows that see some of what
was said before. Each counted token is predicted in one stretch and in no other. Pure.

Text that is no conversation is counted from its first token on, and a conversation never is, since nothing stands
before its first token that could predict it: by this the two are told apart (`is_conversation`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAD = 4  # the part of the context, one in so many, in which a window of a long answer sees what it does not predict

Marks = NDArray[np.bool_]


class Stretch(NamedTuple):
    """Tokens begin to stop are read, and of these the counted ones from `first` on are predicted."""

    begin: int
    first: int
    stop: int


def is_conversation(counted: Marks) -> bool:
    """Whether tokens that are counted so are a conversation's."""
    return len(counted) > 0 and not counted[0]


def stretches(counted: Marks, context: int) -> list[Stretch]:
    """Of a conversation by its marks; each has at most context + 1 tokens. None if nothing in it counts."""
    found: list[Stretch] = []
    since = 0
    for first, stop in answers(counted):
        if found and stop - found[-1].begin <= context + 1:
            found[-1] = found[-1]._replace(stop=stop)
        else:
            found += _of_one(since, first, stop, context)
        since = stop
    return found


def answers(counted: Marks) -> Iterator[tuple[int, int]]:
    """Begin and end of every run of counted tokens."""
    edges = np.flatnonzero(np.diff(counted.astype(np.int8), prepend=0, append=0))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _of_one(since: int, first: int, stop: int, context: int) -> Iterator[Stretch]:
    """Of an answer from `first` to `stop` whose exchange begins at `since`."""
    if stop - first <= context:
        yield Stretch(max(since, stop - context - 1), first, stop)
        return
    while first < stop:
        begin = max(0, first - max(1, context // LEAD))
        end = min(begin + context + 1, stop)
        yield Stretch(begin, first, end)
        first = end
