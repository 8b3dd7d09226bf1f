"""What a learner answers: how own training went, and how one round's mathematics ended. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from p2pfinetune.names import PeerId, Served, TrustRow
from p2pfinetune.scoring.difference import Difference, difference
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
class HeldOut:
    """What a figure of one held-out split rests on, and how far the personal adapter is from others there."""

    tokens: int
    documents: int
    windows: int
    against_base: Difference | None
    """Personal less base: below zero, personal is better. None where a loss is not finite."""
    against_local: Difference | None = None
    """Likewise, where there is a twin and it was measured on that split."""


@dataclass(frozen=True, slots=True)
class Collaboration:
    """How one round's mathematics ended. Losses are means in nats a token."""

    row: TrustRow
    accepted: bool
    """The merge was kept, or there was nothing to merge."""
    reason: str
    """Empty when accepted; else a word of `guard`, or `judging.RETURNED`: own training drifted, the best came back."""
    loss_trust: float
    """Of the personal adapter."""
    guard_base: float
    guard_own: float
    guard_personal: float
    guard_local: float | None
    best_guard: float
    new_best: bool
    served: Served
    """Whose adapter a person is given from now on."""
    refused: Mapping[PeerId, str]
    """Updates that were left out beside the others, with the reason; see `neighbourhood`."""
    copies: tuple[tuple[PeerId, PeerId], ...]
    """Pairs of peers, me included, one of which copied the other."""
    on_trust: HeldOut
    on_guard: HeldOut


def held_out(personal: Evaluation, base: Evaluation, local: Evaluation | None) -> HeldOut:
    """Of measures of the same split, paired by window."""

    def less(other: Evaluation | None) -> Difference | None:
        if other is None or not (np.isfinite(personal.per_window) & np.isfinite(other.per_window)).all():
            return None
        return difference(personal, other)

    return HeldOut(personal.tokens, personal.documents, len(personal.per_window), less(base), less(local))
