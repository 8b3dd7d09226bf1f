"""Learning rates as a pure function of the step. Knows nothing of optimizers.

OneCycle with a cosine either way, as the paper's code has it, if the number of steps is known: a short warm-up, since
the first moments of Adam are of few gradients, and a long way down. A daemon does not know how long it will run, so its
rate stays at the peak after the warm-up: one that falls towards a guessed end would leave a peer slow at new text.
Merging does not start a new cycle; trainers that are merged with are at steps of their own.
"""

from __future__ import annotations

import math

WARMUP = 0.02  # of the steps; arXiv 2404.09753, authors' code
START = 0.01  # of the peak, at the first step
END = 0.2  # of the peak, at the last step: torch's final_div_factor 0.05 relative to START
NOMINAL_STEPS = 1000  # stands for the unknown number of steps of a daemon that runs for ever, so warm-up is 20 steps


def learning_rate(step: int, peak: float, total_steps: int) -> float:
    """The rate of the step-th step, counted from 0.

    With `total_steps`: the paper's OneCycle, that is a cosine up over 2 % of the steps and a cosine down, and then the
    last rate for ever. With 0: the same way up over 2 % of `NOMINAL_STEPS`, then constant.
    """
    if step < 0 or total_steps < 0:
        raise ValueError("steps are zero or positive")
    top = max(WARMUP * (total_steps or NOMINAL_STEPS) - 1.0, 0.0)  # like torch, the step at which the peak is reached
    if step <= top and top > 0.0:
        return _cosine(START * peak, peak, step / top)
    if not total_steps:
        return peak
    downwards = max(total_steps - 1.0 - top, 1.0)
    return _cosine(peak, END * peak, min((step - top) / downwards, 1.0))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1.0 + math.cos(math.pi * part)) / 2.0
