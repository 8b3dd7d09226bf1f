"""Whether a twin trains: `on`, `off`, or `auto`, if it costs little. Decided once, before anything is learnt.

A twin that begins late knows nothing of training alone, so what was decided at the first start stays, by a rule that
is all here and a function of values:

1. What the saved training says decides: with a twin or without.
2. Of a training that begins: a twin if a round was measured to take at most a fifth longer with one.
   `twin_times` measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from p2pfinetune.errors import OptionError

Choice = Literal["auto", "on", "off"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
Begun = Literal["with a twin", "alone so far", "without a twin"]
"""How a saved training began: with one, or without and nothing merged yet, or without and it is too late."""

MOST = 0.2 + 1e-9  # of a round: what a person who asked for nothing may be made to wait longer
AS_BEGUN = "as decided at the first start"
BEGUN_WITHOUT = "this home began without one"
GIVEN_UP = "the one that trained so far is given up"
NO_ROOM = "the memory of this device does not hold two trainings at once"
TOO_LATE = "and one that begins after a merge knows nothing of training alone"
WAY_OUT = "start with --twin auto, or with a new --home"

Times = Sequence[tuple[float, float]]
"""Seconds of a round without a twin and of the same with one; empty if the two do not fit into memory."""


@dataclass(frozen=True, slots=True)
class TwinChoice:
    """Whether it trains, and why."""

    trains: bool
    why: str
    """A phrase for people; empty if they asked for it."""


def settled(asked: Choice, begun: Begun | None) -> TwinChoice | None:
    """What is known without a measurement; None: it takes one. OptionError for a twin where it is too late for one."""
    if asked == "on" and begun == "without a twin":
        raise OptionError(f"no twin trained here so far, {TOO_LATE}", WAY_OUT)
    if asked != "auto":
        return TwinChoice(asked == "on", GIVEN_UP if asked == "off" and begun == "with a twin" else "")
    if begun is None:
        return None
    return TwinChoice(begun == "with a twin", BEGUN_WITHOUT if begun == "without a twin" else AS_BEGUN)


def worth_it(times: Times) -> TwinChoice:
    """By the median over the pairs, which one interruption does not move."""
    if not times:
        return TwinChoice(False, NO_ROOM)
    longer = statistics.median(with_twin / without for without, with_twin in times) - 1.0
    takes = "takes" if longer <= MOST else "would take"
    return TwinChoice(longer <= MOST, f"a round with one neighbour {takes} {100 * max(0.0, longer):.0f} % longer")
