"""How often a part of the windows says other than all of them, and what it saves."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from p2pfinetune.scoring.sequential import ERROR, looks, told

Draw = tuple[NDArray[np.float64], NDArray[np.int64]]
DRAWS = 400
BLOCKS = 5  # of eight or nine windows each


def early(differences: NDArray[np.float64], tokens: NDArray[np.int64], dice: np.random.Generator) -> tuple[int, float]:
    """The word of a round, zero if there is none, and the part of the tokens that was looked at."""
    blocks = np.array_split(dice.permutation(len(tokens)), BLOCKS)
    planned = looks([len(block) for block in blocks])
    whole = int(tokens.sum())
    for count in planned:
        seen = np.concatenate(blocks[:count])
        if word := told(differences[seen], tokens[seen], whole, len(planned)):
            return word, float(tokens[seen].sum()) / whole
    return 0, 1.0


def errors(kind: str, mean: float, windows: int = 43) -> tuple[float, float, float]:
    """Shares of draws in which an early word says better, or worse, and all windows the opposite; and the cost."""
    dice = np.random.default_rng([hash_of(kind), round(100 * mean) + 100])
    better = worse = cost = 0.0
    for _ in range(DRAWS):
        differences = drawn(kind, dice, windows) + mean
        tokens = dice.integers(60, 257, windows)
        word, part = early(differences, tokens, dice)
        exact = math.copysign(1, differences @ tokens)
        better += (word < 0.0 < exact) / DRAWS
        worse += (word > 0.0 > exact) / DRAWS
        cost += part / DRAWS
    return better, worse, cost


def hash_of(kind: str) -> int:
    return sum(map(ord, kind))


def drawn(kind: str, dice: np.random.Generator, count: int) -> NDArray[np.float64]:
    if kind == "normal":
        return dice.normal(0.0, 1.0, count)
    if kind == "heavy":
        return dice.standard_t(3, count)
    skewed = dice.exponential(1.0, count) - 1.0
    return skewed if kind == "skewed" else -skewed


@pytest.mark.parametrize("mean", [0.0, 0.1, -0.1, 0.4])
@pytest.mark.parametrize(("kind", "times"), [("normal", 1.0), ("heavy", 1.0), ("skewed", 3.0), ("skewed-down", 3.0)])
def test_an_early_word_is_seldom_other_than_that_of_all_windows(kind: str, times: float, mean: float) -> None:
    better, worse, _ = errors(kind, mean)

    spread = 3.0 * math.sqrt(times * ERROR * (1.0 - times * ERROR) / DRAWS)
    assert max(better, worse) <= times * ERROR + spread


def test_what_is_clear_is_told_by_a_part_and_what_is_not_is_measured_on() -> None:
    clear, close = errors("normal", 1.5), errors("normal", 0.02)

    assert clear[2] < 0.45
    assert close[2] > 0.85


def test_differences_that_are_not_finite_tell_nothing() -> None:
    tokens = np.full(9, 50)

    assert told(np.array([1.0] * 8 + [math.nan]), tokens, 2000, 3) == 0
    assert told(np.full(9, math.inf), tokens, 2000, 3) == 0


def test_copies_are_told_from_nothing_by_no_part() -> None:
    assert told(np.zeros(9), np.full(9, 50), 2000, 3) == 0


def test_fewer_than_eight_windows_say_nothing() -> None:
    assert told(np.full(7, 1.0), np.full(7, 50), 2000, 3) == 0
    assert told(np.full(8, 1.0), np.full(8, 50), 2000, 3) == 1


def test_looks_double_and_end_before_a_look_at_all_would_be_as_good() -> None:
    assert looks([8] * 16) == [2, 4, 8]
    assert looks([8] * 4) == [1, 2]
    assert looks([8, 8]) == [1]
    assert looks([20]) == []
