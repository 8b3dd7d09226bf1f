"""What the guard accepts and refuses, and with which word."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.round.guard import has_drifted, is_clearly_better, verdict
from p2pfinetune.scoring.paired import standard_error

TOKENS = np.array([10, 30])


def losses(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_a_merge_no_worse_than_the_own_adapter_is_accepted() -> None:
    judged = verdict(losses(2.0, 2.0), losses(2.0, 1.9), TOKENS, math.inf, 0.0)

    assert judged.accepted
    assert judged.reason == ""
    assert judged.own == pytest.approx(2.0)
    assert judged.merged == pytest.approx(0.25 * 2.0 + 0.75 * 1.9)


def test_an_equal_merge_is_accepted() -> None:
    assert verdict(losses(2.0, 3.0), losses(2.0, 3.0), TOKENS, 2.75, 0.0).accepted


def test_a_merge_worse_than_the_own_adapter_is_refused() -> None:
    judged = verdict(losses(2.0, 2.0), losses(2.0, 2.01), TOKENS, math.inf, 1.0)

    assert not judged.accepted
    assert judged.reason == "worse-than-own"


def test_the_mean_is_over_tokens_so_a_long_window_counts_more() -> None:
    judged = verdict(losses(2.0, 2.0), losses(1.8, 2.1), TOKENS, math.inf, 1.0)

    assert judged.reason == "worse-than-own"


def test_a_merge_better_than_a_drifted_own_adapter_but_far_above_the_best_is_refused() -> None:
    judged = verdict(losses(3.0, 3.0), losses(2.5, 2.5), TOKENS, 2.0, 0.1)

    assert judged.reason == "above-best"


def test_the_tolerance_is_in_total_and_not_per_round() -> None:
    best, own = 2.0, 2.0
    for _ in range(20):
        judged = verdict(losses(own + 0.03, own + 0.03), losses(own + 0.03, own + 0.02), TOKENS, best, 0.05)
        own = judged.merged if judged.accepted else own

    assert own <= best + 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_merge_without_a_finite_loss_is_refused_even_beside_an_own_adapter_without_one(bad: float) -> None:
    assert verdict(losses(2.0, 2.0), losses(2.0, bad), TOKENS, math.inf, 1.0).reason == "not-finite"
    assert verdict(losses(2.0, bad), losses(2.0, bad), TOKENS, math.inf, 1.0).reason == "not-finite"


def test_a_sound_merge_rescues_an_own_adapter_that_is_not_a_number() -> None:
    assert verdict(losses(math.nan, 2.0), losses(2.0, 2.0), TOKENS, 2.0, 0.1).accepted


def test_drift_is_measured_from_the_best_and_a_nan_has_drifted() -> None:
    assert not has_drifted(2.05, 2.0, 0.05)
    assert has_drifted(2.06, 2.0, 0.05)
    assert has_drifted(math.nan, 2.0, 0.05)
    assert not has_drifted(9.0, math.inf, 0.05)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20), st.integers(1, 99)), min_size=1, max_size=9),
    st.floats(0, 20),
    st.floats(0, 1),
)
def test_nothing_accepted_is_worse_than_own_or_above_best(pairs, best, tolerance) -> None:
    own, merged, tokens = (np.array(column) for column in zip(*pairs, strict=True))

    judged = verdict(own.astype(float), merged.astype(float), tokens, best, tolerance)

    assert judged.accepted == (judged.merged <= judged.own and judged.merged <= best + tolerance)
    assert judged.accepted == (judged.reason == "")


EVEN = np.array([20, 20, 20, 20])
OWN = losses(2.0, 3.0, 2.0, 3.0)
DEARER = OWN + losses(0.06, -0.02, 0.06, -0.02)  # 0.02 on average


def test_a_merge_that_costs_no_more_than_the_credit_is_taken_on_it() -> None:
    judged = verdict(OWN, DEARER, EVEN, math.inf, 1.0, credit=0.03)

    assert (judged.accepted, judged.on_credit) == (True, True)
    assert judged.merged > judged.own


def test_a_merge_that_costs_more_is_refused() -> None:
    assert verdict(OWN, DEARER, EVEN, math.inf, 1.0, credit=0.01).reason == "worse-than-own"


def test_there_is_no_credit_before_the_last_one_is_regained() -> None:
    assert verdict(OWN, DEARER, EVEN, math.inf, 1.0, credit=0.03, owed=2.5).reason == "worse-than-own"
    assert verdict(OWN, DEARER, EVEN, math.inf, 1.0, credit=0.03, owed=2.501).accepted


def test_a_merge_that_is_no_worse_needs_no_credit() -> None:
    judged = verdict(OWN, OWN - 0.1, EVEN, math.inf, 1.0, credit=0.03, owed=1.0)

    assert (judged.accepted, judged.on_credit) == (True, False)


def test_credit_does_not_stretch_the_tolerance() -> None:
    assert verdict(OWN, DEARER, EVEN, 2.5, 0.01, credit=0.03).reason == "above-best"


@given(st.lists(st.floats(-0.2, 0.2), min_size=4, max_size=4), st.floats(0, 0.1))
def test_own_losses_fall_from_credit_to_credit_so_that_credits_cannot_add_up(steps, credit) -> None:
    owed, given_at = math.inf, []
    for step in (*steps, *reversed(steps)):
        own = OWN + step
        judged = verdict(own, own + (DEARER - OWN), EVEN, math.inf, 9.0, credit=credit, owed=owed)
        if judged.on_credit:
            owed = judged.own
            given_at.append(judged.own)

    assert given_at == sorted(set(given_at), reverse=True)


def test_the_standard_error_is_that_of_a_mean_where_windows_are_equal() -> None:
    differences = losses(0.2, -0.1, 0.3, 0.0)

    assert standard_error(differences, EVEN) == pytest.approx(differences.std(ddof=1) / 2)


def test_the_standard_error_of_what_is_not_finite_is_no_excuse() -> None:
    assert standard_error(losses(0.1, math.inf), TOKENS) == 0.0


@pytest.mark.parametrize(
    ("better", "is_clear"),
    [
        (losses(1.9, 1.9, 1.9, 1.9), True),
        (losses(1.9, 1.9, 1.9, 2.2), False),  # better in the mean, within its standard error
        (losses(2.0, 2.0, 2.0, 2.0), False),
        (losses(2.1, 2.1, 2.1, 2.1), False),
        (losses(math.nan, 1.0, 1.0, 1.0), False),
    ],
)
def test_better_is_clear_beyond_the_standard_error_of_the_pairs(better: np.ndarray, is_clear: bool) -> None:
    assert is_clearly_better(better, losses(2.0, 2.0, 2.0, 2.0), EVEN) is is_clear


def test_losses_that_are_not_paired_are_a_bug() -> None:
    with pytest.raises(ValueError, match="paired"):
        verdict(losses(1.0), losses(1.0, 2.0), TOKENS, 1.0, 0.0)
