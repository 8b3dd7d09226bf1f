"""The no-harm guard: is a merge worth having? Pure arithmetic on losses; measures nothing and changes nothing.

A merge is kept if its mean loss on the guard split is no higher than the own adapter's, and not above the best ever
reached by more than a tolerance. Losses are of the same windows, so the difference of two adapters is seen long before
their losses could be told apart. It is a comparison of two means and not a test: a test that wants certainty would
refuse nearly every merge of a small split, and what a refusal costs is a round of others' learning.

Two things keep small errors from adding up. The tolerance counts from the best ever and not from the last round, so
many small steps upwards are no loophole. And credit (a merge that costs a little at once often pays off after some
training) is given again only after the loss at which it was last given has been beaten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.scoring.paired import Losses, standard_error, token_mean

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
    on_credit: bool
    """Accepted though it measured worse than the own adapter; the loss `own` is owed from now on."""


def verdict(
    own: Losses,
    merged: Losses,
    tokens: NDArray[np.int64],
    best: float,
    tolerance: float,
    *,
    credit: float = 0.0,
    owed: float = math.inf,
) -> Verdict:
    """Accept if the merge is no worse than the own adapter and at most `tolerance` above the best ever reached.

    `own` and `merged` hold the mean loss of the same windows in the same order and `tokens` how many tokens each mean
    is over. The conditions are about the mean over tokens, so the pairing removes how hard a window is. `tolerance`
    is in nats a token, in total and not per round; `best` is infinite before anything was measured.

    No worse means: by no more than `credit`, in nats a token. A merge often costs a little at once and pays off after
    some rounds of training from it. Credit is given only if the own adapter is better than `owed`, its loss at the
    last credit, so what was given up is regained first and credits cannot add up.
    """
    if not own.shape == merged.shape == tokens.shape or tokens.sum() <= 0:
        raise ValueError("own and merged losses are paired over the same windows, of which there is at least one token")
    if math.isnan(best) or math.isnan(owed) or not (tolerance >= 0.0 and credit >= 0.0):
        raise ValueError("best and owed are numbers or infinite, tolerance and credit are zero or positive")
    own_mean, merged_mean = token_mean(own, tokens), token_mean(merged, tokens)
    reason = _reason(own_mean + (credit if own_mean < owed else 0.0), merged_mean, best, tolerance)
    return Verdict(
        accepted=not reason,
        reason=reason,
        own=own_mean,
        merged=merged_mean,
        on_credit=not reason and merged_mean > own_mean,
    )


def is_clearly_better(one: Losses, other: Losses, tokens: NDArray[np.int64]) -> bool:
    """Whether `one` is below `other` by more than the standard error of their difference, paired by window."""
    with np.errstate(invalid="ignore"):  # of two that are not finite there is no difference
        saved = other - one
    return token_mean(saved, tokens) > standard_error(saved, tokens)


def has_drifted(loss: float, best: float, tolerance: float) -> bool:
    """Whether an adapter is so far above the best ever reached that the best should be returned to."""
    return not loss <= best + tolerance  # a NaN has drifted too


def _reason(own: float, merged: float, best: float, tolerance: float) -> str:
    if not math.isfinite(merged):
        return NOT_FINITE
    if merged > own:
        return WORSE_THAN_OWN
    return ABOVE_BEST if has_drifted(merged, best, tolerance) else ""
