"""Losses and perplexities as they are told, and the word for those that tell nothing any more. Pure, without numpy.

A model that has diverged has a loss of 300 nats, of infinity, or none that is a number. JSON knows neither of the last
two, and e^300 is no figure for a person: whatever lies beyond `MAX_LOSS` is told as `MAX_LOSS`, its perplexity as the
exponential of that, and both are written as `DIVERGED`. None is what was not measured, and nothing else. There is one
bound, so that daemon, page, simulator and tables say the same of one run.
"""

from __future__ import annotations

import math
from typing import Final, overload

MAX_LOSS: Final = 50.0
"""Nats a token; guessing among a million tokens costs 14."""
MAX_PERPLEXITY: Final = math.exp(MAX_LOSS)
DIVERGED: Final = "diverged"


@overload
def bounded(loss: float) -> float: ...
@overload
def bounded(loss: float | None) -> float | None: ...
def bounded(loss: float | None) -> float | None:
    """A loss, in nats a token, that every format on the way can hold."""
    if loss is None:
        return None
    return min(loss, MAX_LOSS) if math.isfinite(loss) else MAX_LOSS


@overload
def perplexity(loss: float) -> float: ...
@overload
def perplexity(loss: float | None) -> float | None: ...
def perplexity(loss: float | None) -> float | None:
    """Of a mean cross-entropy in nats a token; at most `MAX_PERPLEXITY`, which stands for a model that has diverged."""
    found = bounded(loss)
    return None if found is None else math.exp(found)


def has_diverged(loss: float) -> bool:
    """Whether a mean cross-entropy tells nothing any more; so of one that is no number."""
    return not bounded(loss) < MAX_LOSS


def written(perplexity: float) -> str:
    """With two digits, which the differences are made of."""
    return f"{perplexity:.2f}" if perplexity < MAX_PERPLEXITY else DIVERGED


def as_change(nats: float) -> float:
    """A difference of two losses as the relative change of perplexity: -0.08 is 8 % lower."""
    return math.expm1(max(-MAX_LOSS, min(nats, MAX_LOSS)))
