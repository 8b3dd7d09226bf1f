"""Schedules of whole simulations."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.simulation.timetable import Churn, Timing, timetable
from p2pfinetune.simulation.topology import Topology, neighbours

STEADY = Churn()
LOCK_STEP = Timing()


def named(count):
    return [PeerId(f"peer-{i}") for i in range(count)]


def asynchronous(**options):
    return Timing(kind="asynchronous", **options)


def planned(count, rounds, timing=LOCK_STEP, churn=STEADY, *, seed=0, kind="full"):
    peers = named(count)
    return timetable(peers, neighbours(Topology(kind=kind), peers, seed), rounds, timing, churn, seed)


def visits(waves):
    return [visit for wave in waves for visit in wave]


@st.composite
def timings(draw):
    max_age = draw(st.sampled_from([0.0, 1.0, 2.5]))
    if draw(st.booleans()):
        return Timing(max_age=max_age)
    return asynchronous(
        spread=draw(st.sampled_from([0.0, 0.3, 1.0, 4.0])),
        jitter=draw(st.sampled_from([0.0, 0.2, 0.9])),
        delay=draw(st.sampled_from([0.0, 0.5, 1.0])),
        max_age=max_age,
    )


@st.composite
def cases(draw):
    churn = Churn(leave=draw(st.sampled_from([0.0, 0.3, 1.0])), back=draw(st.sampled_from([0.0, 0.5, 1.0])))
    kind = draw(st.sampled_from(["full", "ring", "full-star"]))
    timing, seed = draw(timings()), draw(st.integers(0, 10_000))
    peers = named(draw(st.integers(1, 6)))
    graph = neighbours(Topology(kind=kind), peers, seed)
    rounds = draw(st.integers(0, 8))
    return peers, graph, rounds, timing, churn, timetable(peers, graph, rounds, timing, churn, seed)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_peer_ends_each_of_its_rounds_once_and_in_order(case):
    peers, _, rounds, _, _, waves = case
    for peer in peers:
        own = [visit for visit in visits(waves) if visit.peer == peer]

        assert [visit.round for visit in own] == list(range(1, rounds + 1))
        assert all(one.time < other.time for one, other in pairwise(own))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_visits_are_chronological_and_waves_are_of_distinct_peers(case):
    peers, _, _, _, _, waves = case
    key = [(visit.time, peers.index(visit.peer)) for visit in visits(waves)]

    assert key == sorted(key)
    assert all(len({visit.peer for visit in wave}) == len(wave) > 0 for wave in waves)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_one_moment_is_never_split_and_waves_are_as_long_as_that_allows(case):
    *_, waves = case
    for wave, following in pairwise(waves):
        moment = [visit for visit in following if visit.time == following[0].time]

        assert wave[-1].time < following[0].time
        assert {visit.peer for visit in wave} & {visit.peer for visit in moment}


@settings(max_examples=150, deadline=None)
@given(cases())
def test_what_is_heard_was_trained_before_and_published_online_and_nothing_fresher_was_visible(case):
    _, graph, _, timing, _, waves = case
    wave_of = {(v.peer, v.round): number for number, wave in enumerate(waves) for v in wave}
    for visit in visits(waves):
        for speaker in graph[visit.peer] if visit.is_online else ():
            visible = [  # the slow and obvious version
                v.round
                for v in visits(waves)
                if v.peer == speaker and v.is_online and v.time + timing.delay <= visit.time
            ]
            fresh = [
                v.round
                for v in visits(waves)
                if v.peer == speaker
                and v.round in visible[-1:]
                and (not timing.max_age or visit.time - v.time <= timing.max_age)
            ]
            assert visit.hears.get(speaker) == (fresh[0] if fresh else None)
        for heard in visit.hears.items():
            assert wave_of[heard] <= wave_of[visit.peer, visit.round]


@settings(max_examples=100, deadline=None)
@given(cases())
def test_only_online_peers_hear_and_only_their_neighbours_in_order(case):
    _, graph, _, _, _, waves = case
    for visit in visits(waves):
        assert [peer for peer in graph[visit.peer] if peer in visit.hears] == list(visit.hears)
        assert visit.is_online or not visit.hears


def test_the_same_seed_makes_the_same_timetable_and_another_does_not():
    timing, churn = asynchronous(spread=1.0, jitter=0.3), Churn(leave=0.2, back=0.5)
    drawn = [planned(5, 6, timing, churn, seed=seed) for seed in (3, 3, 4)]

    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_peer_keeps_its_pace_and_presence_in_any_company():
    timing, churn = asynchronous(spread=1.0, jitter=0.3), Churn(leave=0.3, back=0.5)

    def life(count):
        return [(v.round, v.time, v.is_online) for v in visits(planned(count, 8, timing, churn)) if v.peer == "peer-1"]

    assert life(2) == life(6)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 6), rounds=st.integers(0, 5), seed=st.integers(0, 1000))
def test_lock_step_is_one_wave_a_round_in_which_everybody_hears_that_round_of_everybody(count, rounds, seed):
    waves = planned(count, rounds, seed=seed)

    assert len(waves) == rounds
    for number, wave in enumerate(waves, start=1):
        assert [visit.peer for visit in wave] == named(count)
        assert {visit.time for visit in wave} == {float(number)}
        assert all(visit.hears == dict.fromkeys(set(named(count)) - {visit.peer}, number) for visit in wave)


def test_asynchronous_without_any_difference_is_lock_step():
    assert planned(4, 5, asynchronous()) == planned(4, 5)


def test_a_delay_of_one_round_lets_everybody_hear_the_round_before():
    waves = planned(3, 4, asynchronous(delay=1.0))

    assert [{n for v in wave for n in v.hears.values()} for wave in waves] == [set(), {1}, {2}, {3}]


def test_in_lock_step_who_is_offline_stays_heard_until_its_update_is_too_old():
    churn = Churn(leave=0.3, back=0.3)
    waves = planned(4, 40, Timing(max_age=2.0), churn, seed=5)
    ages = [visit.round - number for visit in visits(waves) for number in visit.hears.values()]

    assert len(waves) == 40
    assert set(ages) == {0, 1, 2}


def test_peers_of_unlike_speed_hear_unlike_rounds():
    waves = planned(4, 20, asynchronous(spread=1.0, jitter=0.2), seed=1)
    ahead = {number - visit.round for visit in visits(waves) for number in visit.hears.values()}

    assert min(ahead) < 0 < max(ahead)


def test_speeds_and_jitter_stay_in_their_bounds():
    timing = asynchronous(spread=1.0, jitter=0.25)
    for visit in visits(planned(30, 3, timing)):
        assert 0.5 * 0.75 * visit.round <= visit.time <= 2.0 * 1.25 * visit.round


def test_presence_is_a_chain_of_two_states():
    seen = [visit.is_online for visit in visits(planned(60, 100, churn=Churn(leave=0.1, back=0.3)))]

    assert sum(seen) / len(seen) == pytest.approx(0.3 / (0.1 + 0.3), abs=0.04)
    assert all(visit.is_online for visit in visits(planned(4, 10, churn=Churn(leave=0.0, back=0.0))))
    assert not any(visit.is_online for visit in visits(planned(4, 10, churn=Churn(leave=1.0, back=0.0))))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "eventually"},
        {"kind": "asynchronous", "spread": -0.1},
        {"kind": "asynchronous", "jitter": 1.0},
        {"kind": "asynchronous", "delay": float("inf")},
        {"kind": "asynchronous", "delay": 2.0, "max_age": 1.0},
        {"kind": "lock-step", "delay": 1.0},
        {"kind": "lock-step", "spread": 1.0},
        {"max_age": float("nan")},
    ],
)
def test_timings_that_make_no_sense_are_refused(options):
    with pytest.raises((OptionError, msgspec.ValidationError)):
        msgspec.convert(options, Timing)


@pytest.mark.parametrize("options", [{"leave": 1.1}, {"leave": -0.1}, {"back": float("nan")}])
def test_churn_is_made_of_probabilities(options):
    with pytest.raises(OptionError, match="probabilities"):
        msgspec.convert(options, Churn)
