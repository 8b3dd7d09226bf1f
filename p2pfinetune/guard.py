"""The no-harm guard: is a merge worth having? Pure arithmetic on losses; measures nothing and changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Losses: TypeAlias = NDArray[np.float64]

WORSE_THAN_OWN = "worse-than-own"
ABOVE_BEST = "above-best"
NOT_FINITE = "not-finite"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard says of one merge. Losses are means in nats a token over the whole guard split."""

    accepted: bool
    reason: str
    """Empty when accepted, else one of the fixed words of this module."""
    own: float
    merged: float
    worsened: int
    """Documents on which the merge is worse than the own adapter; for people, it decides nothing."""


def verdict(own: Losses, merged: Losses, tokens: NDArray[np.int64], best: float, tolerance: float) -> Verdict:
    """Accept where the merge is no worse than the own adapter and at most `tolerance` above the best ever reached.

    `own` and `merged` hold the mean loss of the same documents in the same order and `tokens` how many tokens each mean
    is over. Both conditions are about the mean over tokens, so the pairing removes how hard a document is. `tolerance`
    is in nats a token, in total and not per round; `best` is infinite before anything was measured.
    """
    if not own.shape == merged.shape == tokens.shape or tokens.sum() <= 0:
        raise ValueError(
            "own and merged losses are paired over the same documents, of which there is at least one token"
        )
    if math.isnan(best) or not tolerance >= 0.0:
        raise ValueError("best is a number or infinite, tolerance is zero or positive")
    own_mean, merged_mean = token_mean(own, tokens), token_mean(merged, tokens)
    return Verdict(
        accepted=not (reason := _reason(own_mean, merged_mean, best, tolerance)),
        reason=reason,
        own=own_mean,
        merged=merged_mean,
        worsened=int(np.count_nonzero(merged > own)),
    )


def token_mean(per_document: Losses, tokens: NDArray[np.int64]) -> float:
    """Mean over all tokens of losses given per document: the one formula, so that equal losses are equal to the bit."""
    return float(per_document @ tokens) / max(int(tokens.sum()), 1)


def has_drifted(loss: float, best: float, tolerance: float) -> bool:
    """Whether an adapter is so far above the best ever reached that the best should be returned to."""
    return not loss <= best + tolerance  # a NaN has drifted too


def _reason(own: float, merged: float, best: float, tolerance: float) -> str:
    if not math.isfinite(merged):
        return NOT_FINITE
    if merged > own:
        return WORSE_THAN_OWN
    return ABOVE_BEST if has_drifted(merged, best, tolerance) else ""
