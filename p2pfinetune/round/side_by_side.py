"""Several of a peer's models on one text: the loss of each with its interval, beside the base and beside the twin.

All are measured on the same windows, so differences are paired, and documents are what counts as drawn
(`scoring.difference`). An interval of a loss itself says how far it would move with other documents of the same kind,
and is wide; an interval of a difference is what says whether one model is better.

Of a twin there are two, as it is now and as it was at its best on the guard split. What is claimed against training
alone is claimed against the better of the two on this very text, which favours the twin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from p2pfinetune.names import Which
from p2pfinetune.round.figures import LossMargin, ModelFigures, margin
from p2pfinetune.scoring.difference import difference
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.scoring.perplexity import bounded

TWINS: tuple[Which, Which] = ("local", "local_best")
TWIN = "twin"


def side_by_side(found: Mapping[Which, Evaluation]) -> dict[str, ModelFigures]:
    """By the names that people are told: base, own, personal, served and, where one trains, twin."""
    twins = [found[which] for which in TWINS if which in found]
    twin = min(twins, key=lambda one: one.loss) if twins else None
    named: dict[str, Evaluation] = {which: one for which, one in found.items() if which not in TWINS}
    if twin is not None:
        named[TWIN] = twin
    base = found["base"]
    return {name: _figures(name, one, base, twin) for name, one in named.items()}


def _figures(name: str, one: Evaluation, base: Evaluation, twin: Evaluation | None) -> ModelFigures:
    itself = _less(one, replace(one, per_window=np.zeros_like(one.per_window)))
    return ModelFigures(
        loss=bounded(one.loss),
        within=itself.within if itself is not None else None,
        against_base=None if name == "base" else _less(one, base),
        against_twin=None if twin is None or name == TWIN else _less(one, twin),
    )


def _less(one: Evaluation, other: Evaluation) -> LossMargin | None:
    """None if a loss is no number."""
    if not (np.isfinite(one.per_window) & np.isfinite(other.per_window)).all():
        return None
    found = margin(difference(one, other))
    return found if math.isfinite(found.nats) else None
