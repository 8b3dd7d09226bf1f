"""Whether the mean of paired differences is above zero, told by some of them: who stops looking early, and how sure.

The question is about one text, all of whose windows could be looked at, and not about other text: a sample of n of its
N windows, drawn at random without replacement, stands for all of them. So its standard error shrinks with the part that
is left, to nothing once all were seen (Cochran 1977, 2.6 and 6.3), and a rest that says otherwise is the only error.

Looks are few and planned, each with more windows than the last (1/8, 1/4, 1/2 of them, as far as blocks allow). At each
the word is taken if the mean is beyond Student's quantile of ERROR over the number of looks; after the last, everything
is measured and the exact mean decides. By Bonferroni's inequality the early word differs from the exact one with a
chance of ERROR at most, on either side, as far as means of eight differences and more are nearly normal.

How far that is so is measured in `tests/p2pfinetune/test_sequential.py`: normal and heavy-tailed differences keep
below it, strongly skewed ones come to three times of it, and only while the exact mean is next to nothing. Differences
of which a window in sixteen holds all the harm are beyond any sample; docs/adr/0041 says what meets those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.scoring.paired import Losses, student, token_mean

ERROR = 0.02
"""Most that an early word may be wrong of the whole, per comparison and side."""
FRACTIONS = (1 / 8, 1 / 4, 1 / 2)
LEAST = 8  # windows, of which the mean is nearly normal
LAST = 0.6  # of all windows: beyond it, an early word saves too little to be worth an error


def looks(windows: Sequence[int]) -> list[int]:
    """After how many of the blocks, which have so many windows each, one looks; none if there are too few."""
    seen, whole = np.cumsum(windows), sum(windows)
    found = {int(np.searchsorted(seen, part * whole - 1e-9)) + 1 for part in FRACTIONS}
    return sorted(count for count in found if seen[count - 1] <= LAST * whole)


def told(differences: Losses, tokens: NDArray[np.int64], whole: int, planned: int) -> int:
    """The sign of the mean over all `whole` tokens as these windows tell it; 0: they do not.

    `planned` is how many looks there may be, this one included. What is not finite tells nothing.
    """
    n = len(differences)
    if n < LEAST or not np.isfinite(differences).all():
        return 0
    mean, shares = token_mean(differences, tokens), tokens / tokens.sum()
    deviations = shares * (differences - mean)
    left = 1.0 - float(tokens.sum()) / whole
    error = math.sqrt(n / (n - 1) * max(0.0, left) * float(deviations @ deviations))
    beyond = abs(mean) > student(NormalDist().inv_cdf(1.0 - ERROR / planned), n - 1) * error
    return int(math.copysign(1, mean)) if beyond and mean else 0
