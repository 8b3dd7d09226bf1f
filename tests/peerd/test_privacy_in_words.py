"""What people are told about privacy: never more than holds."""

import pytest

from peerd.config import Config
from peerd.daemon.privacy_in_words import meaning, privacy_now
from peerd.store.sent import Spending

ON = Config(private_clip=0.05, private_noise=4.0, private_budget=8.0)


def spent(epsilon=2.0, count=3, **changes):
    fields = {"since_unix": 0.0, "noised": ((4.0, count),) if count else (), "epsilon": epsilon, "delta": 1e-5}
    return Spending(**{**fields, **changes})


def test_without_the_option_it_says_that_updates_may_betray_text():
    now = privacy_now(Config(), Spending(since_unix=0.0, bare=7))

    assert (now.mechanism, now.epsilon, now.bare, now.clip) == ("none", None, 7, None)
    assert "without noise" in now.sentence
    assert "betray" in now.sentence


def test_with_it_everything_that_bounds_is_told():
    now = privacy_now(ON, spent())

    assert (now.mechanism, now.clip, now.noise, now.delta, now.budget) == ("gaussian", 0.05, 4.0, 1e-5, 8.0)
    assert (now.publications, now.epsilon) == (3, 2.0)
    assert "weak promise" in now.sentence
    assert "7.4 times" in now.sentence


@pytest.mark.parametrize("gap", [{"bare": 1}, {"lost": True}])
def test_no_epsilon_is_given_where_something_went_out_that_nothing_bounds(gap):
    now = privacy_now(ON, spent(**gap))

    assert now.epsilon is None
    assert "without noise" in now.sentence or "Nobody counted" in now.sentence
    assert "epsilon 2" in now.sentence  # of what came after, which is something


def test_before_the_first_update_there_is_no_epsilon():
    now = privacy_now(ON, spent(None, 0, delta=None))

    assert (now.epsilon, now.delta) == (None, 1e-5)
    assert "No update" in now.sentence


@pytest.mark.parametrize(
    ("epsilon", "says"),
    [
        (0.5, "strong"),
        (1.0, "2.7 times"),
        (1.1, "weak"),
        (10.0, "22,026 times"),
        (10.1, "too large"),
        (2e6, "2,000,000"),
    ],
)
def test_an_epsilon_is_put_into_words(epsilon, says):
    assert says in meaning(epsilon, 1e-5)


def test_one_that_is_too_large_is_never_called_a_promise():
    assert "promise" not in meaning(10.5, 1e-5)
    assert "unprotected" in meaning(10.5, 1e-5)


def test_a_withheld_update_is_told_with_the_reason():
    assert privacy_now(ON, spent(), "the budget is 8").sentence.endswith("Not publishing any more: the budget is 8.")
