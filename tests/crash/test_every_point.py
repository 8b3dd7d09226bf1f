"""Killed at every fault point, and again while it recovers, a daemon ends with the state of a twin that nobody killed."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLED = -9


def killed_and_restarted(home, fault, twin):
    """What is wrong with the end of it."""
    code = home.live(fault)
    if code != KILLED:
        return [f"was not killed but ended with {code}: {home.said()[-2000:]}"]
    code = home.live()
    if code != 0:
        return [f"did not start again ({code}): {home.said()[-2000:]}"]
    return home.wrong(twin)


def all_wrong(light, twin, faults):
    found = {}
    for fault in faults:
        home = light.home(**twin.options)
        if wrong := killed_and_restarted(home, fault, twin):
            found[fault] = wrong
        home.remove()
    return found


def occurrences(counts):
    """Of every point the first one and one in the middle of the run."""
    for point, count in sorted(counts.items()):
        yield f"{point}=kill@1"
        if count > 1:
            yield f"{point}=kill@{1 + count // 2}"


def test_killed_at_every_point_that_a_peer_alone_reaches(light, twin):
    assert len(twin.reached()) > 50

    wrong = all_wrong(light, twin, occurrences(twin.reached()))

    assert not wrong, "\n".join(f"{fault}: {what}" for fault, what in wrong.items())
