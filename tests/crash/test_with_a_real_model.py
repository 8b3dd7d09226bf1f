"""The same with real training of a tiny model: whatever it is killed at, the daemon ends with the bits of its twin."""

import random
import shutil

import pytest

from tests.support.models import make_model
from tests.support.texts import write_text

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLED = -9


@pytest.fixture(scope="module")
def real(make_light):
    """Torch is loaded before it forks. The options are those of every home."""
    light = make_light("torch")
    shutil.rmtree(light.folder / "text")
    write_text(light.folder / "text", "water", 0)
    light.options = {"model": str(make_model(light.folder / "model"))}
    return light


@pytest.fixture(scope="module")
def twin(real):
    home = real.home()
    assert home.live("*=trace@1+,worker.*=trace@1+") == 0, home.said()
    return home


@pytest.fixture
def again(real, twin):
    """Makes a home of the same identity, which the deal of the text into splits hangs on."""

    def make(**options):
        home = real.home(**options)
        home.paths.prepare()
        shutil.copy2(twin.paths.identity, home.paths.identity)
        return home

    return make


@pytest.fixture
def reborn(again):
    return again()


FAULTS = (
    "worker.checkpoint.before=kill@2",
    "worker.best.after=kill@2",
    "worker.step.after=kill@3",
    "worker.collaborate.before=kill@2",
    "handover.training.before=kill@2",
    "rows.checkpoint.commit.after=kill@3",
    "announcement.speak.before=kill@2",
    "handover.merge.after=kill@2",
)
MORE = (
    "worker.checkpoint.after=kill@2",
    "worker.best.before=kill@2",
    "worker.update.before=kill@2",
    "worker.update.after=kill@2",
    "worker.collaborate.after=kill@2",
    "worker.checkpoint.after=kill@1",
    "worker.checkpoint.before=kill@5",
    "blob.rename.after=kill@4",
    "rows.checkpoint.commit.before=kill@3",
    "rows.checkpoint.commit.after=kill@4",
    "announcement.speak.after=kill@3",
    "handover.merge.before=kill@2",
)
"""Slow tests: what lies between two of the points above is killed at twelve random moments in every run of the tests."""


@pytest.mark.parametrize("fault", [*FAULTS, *(pytest.param(fault, marks=pytest.mark.slow) for fault in MORE)])
def test_killed_at_a_point_it_ends_with_the_bits_of_its_twin(reborn, twin, fault):
    assert reborn.live(fault) == KILLED
    assert reborn.live() == 0, reborn.said()

    assert reborn.worse_than(twin) == []


@pytest.mark.parametrize(
    "total_steps",
    [pytest.param(0, id="constant rate, cut in its warm-up", marks=pytest.mark.slow), pytest.param(5, id="one cycle")],
)
def test_interrupted_twice_in_every_round_the_curve_is_that_of_its_twin(again, total_steps):
    unbroken, interrupted = again(total_steps=total_steps), again(total_steps=total_steps)
    assert unbroken.live() == 0, unbroken.said()
    for _ in range(3):
        assert interrupted.live("handover.training.after=kill") == KILLED
        assert interrupted.live("handover.merge.after=kill") == KILLED
    assert interrupted.live() == 0, interrupted.said()

    assert interrupted.worse_than(unbroken) == []
    assert [record[-1] for record in unbroken.end_state()[0]] == (["2", "2", "1"] if total_steps else ["2"] * 3)


def test_killed_at_twelve_random_moments_it_ends_with_the_bits_of_its_twin(again, twin):
    dice, kills = random.Random(7), 0
    while kills < 12:
        home = again()
        while kills < 12 and home.live(kill_after=dice.uniform(0.02, 0.8)) == KILLED:
            kills += 1
        assert home.live() == 0, home.said()
        assert home.worse_than(twin) == []
