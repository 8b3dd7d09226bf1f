"""What a panel is: a pure function from the snapshot and the finished rounds to one drawing.

A panel decides what is said, never how it looks; what it may draw stands in `peerd.control.drawings`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from p2pfinetune.names import PeerId
from peerd.control.drawings import (
    Bar,
    BarChart,
    Column,
    Drawing,
    Fact,
    Line,
    Mark,
    Series,
    Table,
    Tone,
    Unit,
    Value,
    Words,
)
from peerd.control.peer_names import mine, told_apart
from peerd.status import RoundRecord, Status

__all__ = [
    "Bar",
    "BarChart",
    "Column",
    "Drawing",
    "Fact",
    "Line",
    "Mark",
    "Panel",
    "Series",
    "Table",
    "Tone",
    "Unit",
    "Value",
    "Words",
    "titles",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel(ABC):
    """The docstring of a panel is the explanation shown beside it."""

    title: ClassVar[str]
    order: ClassVar[int]
    """Place on the page, smallest first."""
    width: ClassVar[Literal["full", "half", "third"]] = "half"

    @abstractmethod
    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """`rounds` are finished rounds, oldest first."""


def titles(status: Status) -> dict[PeerId, str]:
    """Everyone that I know by the name as it may be shown, told apart; `(me)` for myself."""
    names = {status.peer_id: status.name, **{neighbour.peer_id: neighbour.name for neighbour in status.neighbours}}
    return told_apart(names) | {status.peer_id: mine(status.name)}
