"""What a learner answers: how own training went, and how one round's mathematics ended. Values only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfinetune.names import PeerId, Served, TrustRow
from p2pfinetune.round.figures import LossMargin, RoundFigures, SplitFigures, margin
from p2pfinetune.scoring.difference import difference
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.training.trainer import StepReport


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

    @classmethod
    def of(cls, reports: Sequence[StepReport]) -> TrainReport:
        """What single steps amount to."""
        return cls(
            steps=len(reports),
            tokens=sum(report.tokens for report in reports),
            loss_train=math.fsum(report.loss for report in reports) / max(len(reports), 1),
            skipped=sum(report.skipped for report in reports),
        )


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
    personal: Evaluation,
    base: Evaluation,
    twin: Evaluation | None = None,
    beside_own: tuple[Evaluation, Evaluation] | None = None,
) -> SplitFigures:
    """Of measures of the same split, paired by window; `beside_own`: personal and own where both were measured."""
    return SplitFigures(
        tokens=personal.tokens,
        documents=personal.documents,
        windows=len(personal.per_window),
        against_base=_less(personal, base),
        against_twin=None if twin is None else _less(personal, twin),
        against_own=None if beside_own is None else _less(*beside_own),
    )


def own_loss(personal: Evaluation, beside_own: tuple[Evaluation, Evaluation]) -> float:
    """Of the own adapter, nats a token: where it was measured on a part alone, by its difference to the personal one.

    A difference estimator: the personal adapter's loss is of all windows, and the difference, of which the hardness of
    a window has fallen out, of those on which both were run.
    """
    there, own = beside_own
    return own.loss if own.tokens == personal.tokens else personal.loss + (own.loss - there.loss)


def _less(one: Evaluation, other: Evaluation) -> LossMargin | None:
    if not (np.isfinite(one.per_window) & np.isfinite(other.per_window)).all():
        return None
    return margin(difference(one, other))
