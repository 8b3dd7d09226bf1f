"""A finished round, as a row of the store and as it is shown: two types and the one way from the first to the second.

The row is what every version since the first can read: keys are only added, with a default. What is shown may be said
in other words, and has for one version what older programs look for (`local` for the twin).
"""

from __future__ import annotations

from typing import Any

import msgspec

from p2pfinetune.names import PeerId, Round, Served
from p2pfinetune.round.figures import RoundFigures
from peerd.status import RoundRecord


class StoredRound(RoundFigures, frozen=True, kw_only=True):
    """One finished round, as JSON in a row; the figures lie flat among the rest."""

    round: Round
    finished_unix: float
    row: dict[PeerId, float]
    accepted: bool
    reason: str
    steps: int
    bytes_in: int
    bytes_out: int
    served: Served = "personal"

    @classmethod
    def of(cls, figures: RoundFigures, **rest: Any) -> StoredRound:
        """With the figures whole."""
        return cls(**msgspec.structs.asdict(figures), **rest)


def shown(row: StoredRound) -> RoundRecord:
    """As `peerd rounds`, the API and the dashboard's curves have it."""
    return msgspec.convert(row, RoundRecord, from_attributes=True)


def figures_of(record: RoundRecord) -> RoundFigures:
    """What that round measured."""
    return msgspec.convert(record, RoundFigures, from_attributes=True)
