"""Losses and perplexities as they are told, and the word for those that tell nothing any more. Pure.

A model that has diverged has a loss of 300 nats, of infinity, or none that is a number. JSON knows neither of the last
two, and e^300 is no figure for a person: whatever lies beyond `MAX_LOSS` is told as `MAX_LOSS`, its perplexity as the
exponential of that, and both are written as `DIVERGED`. None is what was not measured, and nothing else.
"""

from __future__ import annotations

import math
from typing import overload

MAX_LOSS = 50.0  # nats a token; guessing among a million tokens costs 14
DIVERGED = "diverged"


@overload
def bounded(loss: float) -> float: ...
@overload
def bounded(loss: float | None) -> float | None: ...
def bounded(loss: float | None) -> float | None:
    """A loss that every format on the way can hold."""
    if loss is None:
        return None
    return min(loss, MAX_LOSS) if math.isfinite(loss) else MAX_LOSS


@overload
def perplexity(loss: float) -> float: ...
@overload
def perplexity(loss: float | None) -> float | None: ...
def perplexity(loss: float | None) -> float | None:
    """Of a mean cross-entropy in nats a token."""
    found = bounded(loss)
    return None if found is None else math.exp(found)


MAX_PERPLEXITY = math.exp(MAX_LOSS)
