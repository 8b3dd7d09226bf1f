"""Figures of the library as the daemon hears them: an interval without end is not known, and travels as nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from p2pfinetune.names import Which
from peerd.status import LossMargin, SplitFigures

if TYPE_CHECKING:
    from p2pfinetune.round import result
    from p2pfinetune.round.learner import Learner
    from p2pfinetune.scoring import difference


def held_out(found: result.HeldOut) -> SplitFigures:
    """As it is told."""
    return SplitFigures(
        tokens=found.tokens,
        documents=found.documents,
        windows=found.windows,
        against_base=_told(found.against_base),
        against_local=_told(found.against_local),
    )


def _told(found: difference.Difference | None) -> LossMargin | None:
    if found is None:
        return None
    reach = found.interval[1] - found.nats
    return LossMargin(nats=found.nats, within=reach if math.isfinite(reach) else None)


def models(learner: Learner) -> tuple[Which, ...]:
    """The models that exist here; of the twin also its best by guard loss, since claims are made against the better."""
    return ("base", "own", "personal", "served", *(("local", "local_best") if learner.has_twin else ()))
