"""A disk that is full, fails or cannot be written for a while, at every durable step: nothing is lost, and the rounds go on."""

import pytest

from peerd.machine.faults import POINTS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

AT_THE_START = ("start.", "database.", "identity.", "config.", "rows.spending.")
"""Where a refusal ends the start, with advice; the next start does it all again."""


ON_DISK = ("blob.", "rows.", "generations.", "database.", "identity.", "config.")


def refused_for_a_while(light, twin, point, action, times):
    """What is wrong with the end of it."""
    home = light.home(**twin.options)
    code = home.live(f"{point}={action}@{times}")
    if point.startswith(AT_THE_START) and code == 1:
        code = home.live()
    if code == 0:
        code = home.live()  # which sweeps away what could not be deleted, or was never announced
    wrong = home.worse_than(twin) if code == 0 else [f"ended with {code}"]
    if "Traceback" in home.said():
        wrong.append("a traceback")
    said = home.said()[-1500:] if wrong else ""
    home.remove()
    return [*wrong, said] if wrong else []


def reached_by(twin):
    return sorted(point for point in twin.reached() if point in POINTS and point.startswith(ON_DISK))


@pytest.mark.parametrize(
    ("action", "where"),
    [
        ("enospc", ON_DISK),
        ("eio", ("generations.", "rows.checkpoint")),
        pytest.param("eio", ON_DISK, marks=pytest.mark.slow),
        ("erofs", ("rows.checkpoint", "blob.sync")),
        ("emfile", ("blob.sync",)),
    ],
)
def test_a_write_that_is_refused_is_tried_again_and_the_rounds_end_the_same(light, twin, action, where):
    wrong = {
        point: found
        for point in reached_by(twin)
        if point.startswith(where) and (found := refused_for_a_while(light, twin, point, action, "1-2"))
    }

    assert not wrong, "\n".join(f"{point}: {what}" for point, what in wrong.items())
