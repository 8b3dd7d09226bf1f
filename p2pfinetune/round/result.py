"""What a learner answers: how own training went, and how one round's mathematics ended. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2pfinetune.names import PeerId, Served, TrustRow
from p2pfinetune.round.figures import LossMargin, RoundFigures, SplitFigures, margin
from p2pfinetune.scoring.difference import difference
from p2pfinetune.scoring.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class TrainReport:
    """Some steps of own training."""

    steps: int
    tokens: int
    """Of the own training; a twin takes as many again."""
    loss_train: float
    """Mean over the steps."""
    skipped: int
    """Steps without effect, since the gradient was not finite."""


@dataclass(frozen=True, slots=True)
class Collaboration:
    """How one round's mathematics ended."""

    row: TrustRow
    accepted: bool
    """The merge was kept, or there was nothing to merge."""
    reason: str
    """Empty when accepted; else a word of `guard`, or `judging.RETURNED`: own training drifted, the best came back."""
    figures: RoundFigures
    """What was measured; not of the own training, which was before."""
    best_guard: float
    new_best: bool
    served: Served
    """Whose adapter a person is given from now on."""
    refused: Mapping[PeerId, str]
    """Updates that were left out beside the others, with the reason; see `comparison`."""
    copies: tuple[tuple[PeerId, PeerId], ...]
    """Pairs of peers, me included, one of which copied the other."""


def on_split(
    personal: Evaluation, base: Evaluation, twin: Evaluation | None = None, own: Evaluation | None = None
) -> SplitFigures:
    """Of measures of the same split, paired by window."""

    def less(other: Evaluation | None) -> LossMargin | None:
        if other is None or not (np.isfinite(personal.per_window) & np.isfinite(other.per_window)).all():
            return None
        return margin(difference(personal, other))

    return SplitFigures(
        tokens=personal.tokens,
        documents=personal.documents,
        windows=len(personal.per_window),
        against_base=less(base),
        against_twin=less(twin),
        against_own=less(own),
    )
