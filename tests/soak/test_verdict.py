"""A soak run is judged by what was seen, and the judge can say no."""

import pytest

from tests.soak.verdict import Life, Seen, faults_of, growth, longest_gap

MIB = 2**20


def look(at, rounds, **other):
    usual = {
        "pid": 7,
        "rss": 100 * MIB,
        "worker": 8,
        "worker_rss": 300 * MIB,
        "descriptors": 40,
        "disk": 5 * MIB,
    }
    return Seen(at=float(at), rounds=rounds, **{**usual, **other})


def regular(until=600, every=10, **other):
    return Life("a", [look(at, at // every, **other) for at in range(0, until, 5)])


def test_a_run_in_which_all_is_regular_has_no_fault():
    assert faults_of(regular(), 600.0, 0.0) == []


def test_a_minute_without_a_round_is_found():
    life = regular()
    life.seen = [look(s.at, min(s.rounds, 20) if s.at < 280 else s.rounds) for s in life.seen]

    gap = longest_gap(life, 600.0, 0.0)

    assert (gap.seconds, gap.at) == (80.0, 200.0)
    assert "no round finished for 80 s" in faults_of(life, 600.0, 0.0)[0]


def test_absence_and_the_minute_after_it_do_not_count():
    life = regular()
    life.seen = [look(s.at, min(s.rounds, 20) if s.at < 280 else s.rounds) for s in life.seen]
    life.away = [(205.0, 215.0)]

    assert longest_gap(life, 600.0, 0.0).seconds <= 10.0


def test_a_peer_that_never_comes_back_is_found():
    life = regular(until=300)
    life.away = [(295.0, 300.0)]

    gap = longest_gap(life, 600.0, 0.0)

    assert (gap.seconds, gap.at) == (240.0, 360.0)


def test_absences_that_overlap_are_one():
    life = Life("a", [look(0, 0), look(400, 1)], [(0.0, 100.0), (20.0, 330.0)])

    assert longest_gap(life, 400.0, 0.0).seconds == pytest.approx(10.0)


def test_a_leak_of_the_daemon_and_of_the_worker_is_found_and_a_spike_is_not():
    spiked = Life("a", [look(at, at, rss=(400 if at == 300 else 100) * MIB) for at in range(0, 600, 5)])
    leaking = Life("a", [look(at, at, rss=(100 + at // 10) * MIB) for at in range(0, 600, 5)])
    worker = Life("a", [look(at, at, worker_rss=(300 + at // 5) * MIB) for at in range(0, 600, 5)])

    assert faults_of(spiked, 600.0, 0.0) == []
    assert "the daemon grows by 60 MiB" in faults_of(leaking, 600.0, 0.0)[0]
    assert "the worker grows by 120 MiB" in faults_of(worker, 600.0, 0.0)[0]


def test_each_process_is_judged_by_itself():
    """A restarted one is small again and grows to its usual size."""
    looks = [look(at, at, pid=1 + at // 200, rss=(50 + at % 200 // 2) * MIB) for at in range(0, 600, 5)]

    assert faults_of(Life("a", looks), 600.0, 0.0) == []


def test_too_short_a_life_says_nothing_about_growth():
    assert growth([(0.0, 1.0), (100.0, 100.0)]) is None


def test_descriptors_and_disk_that_pile_up_are_found():
    life = Life("a", [look(at, at, descriptors=40 + at // 10, disk=(5 + at // 10) * MIB) for at in range(0, 600, 5)])

    found = faults_of(life, 600.0, 0.0)

    assert [sentence.split(" ", 2)[2] for sentence in found] == [
        "descriptors more at the end",
        "MiB of disk more at the end",
    ]
