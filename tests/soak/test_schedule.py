"""The schedule of a soak run is bounded and varied, whatever the seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.schedule import AWAY, CALM_SECONDS, CROWD, LINKS, MOST_AWAY, START_SECONDS, STEADY, schedule

SEEDS = st.integers(0, 10**6)


@given(SEEDS)
def test_nothing_goes_wrong_at_the_start_and_all_is_calm_at_the_end(seed):
    for fault in schedule(seed, 1200.0, 10):
        assert fault.at >= START_SECONDS
        assert fault.until <= 1200.0 - CALM_SECONDS


@given(SEEDS)
def test_few_machines_are_away_at_one_time_and_the_steady_ones_never(seed):
    faults = [fault for fault in schedule(seed, 1200.0, 10) if fault.kind in AWAY]

    for fault in faults:
        assert sum(other.at <= fault.at < other.until for other in faults) <= MOST_AWAY
        assert min(fault.who) >= STEADY


@given(SEEDS)
def test_twenty_minutes_have_every_kind_of_fault(seed):
    kinds = {fault.kind for fault in schedule(seed, 1200.0, 10)}

    assert len(kinds) >= len({*AWAY, *LINKS, *CROWD}) - 3
    assert {"kill", "poison", "attack"} <= kinds


def test_the_same_seed_gives_the_same_run():
    assert schedule(4, 900.0, 10) == schedule(4, 900.0, 10) != schedule(5, 900.0, 10)


@pytest.mark.parametrize("seconds", [0.0, 200.0])
def test_a_run_too_short_for_faults_has_none(seconds):
    assert schedule(0, seconds, 10) == []
