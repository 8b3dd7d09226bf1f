"""Losses of two models on the same windows: their mean over tokens, and how far that mean may be off.

How hard a window is differs far more than how good two adapters of one base are, so losses are compared in pairs,
window by window; the pairing takes the hardness out. There is one formula for the mean, here, and everybody takes it:
a guard that asks whether one loss is at most another must not be answered by the order of a sum.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Losses: TypeAlias = NDArray[np.float64]
"""Mean loss of each window, in nats a token; shape (windows,)."""


def standard_error(differences: Losses, tokens: NDArray[np.int64]) -> float:
    """Of the mean over tokens of what is given per part; zero for a single part, of which nothing is known.

    The ratio estimator of survey sampling: parts are drawn, and their tokens come with them (Cochran 1977, 6.3).
    """
    n = len(differences)
    if n < 2 or not np.isfinite(differences).all():
        return 0.0
    shares = tokens / tokens.sum()
    deviations = shares * (differences - differences @ shares)
    return math.sqrt(n / (n - 1) * float(deviations @ deviations))


def token_mean(per_window: Losses, tokens: NDArray[np.int64]) -> float:
    """Mean over all tokens of losses given per window: the one formula, so that equal losses are equal to the bit."""
    return float(per_window @ tokens) / max(int(tokens.sum()), 1)


def student(normal: float, degrees: int) -> float:
    """The quantile of Student's t where a standard normal one is `normal` (Abramowitz and Stegun 26.7.5)."""
    z, n = normal, float(degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3
