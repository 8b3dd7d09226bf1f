"""The same with real training of a tiny model: whatever it is killed at, the daemon ends with the bits of its twin."""

import importlib.util
import random
import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLED = -9


@pytest.fixture(scope="module")
def real(make_light):
    """Torch is loaded before it forks. The options are those of every home."""
    found = importlib.util.spec_from_file_location("town", Path(__file__).parents[1] / "e2e" / "conftest.py")
    town = importlib.util.module_from_spec(found)
    found.loader.exec_module(town)
    light = make_light("torch")
    shutil.rmtree(light.folder / "text")
    town.write_text(light.folder / "text", "water", 0)
    light.options = {"model": str(town.make_model(light.folder / "model"))}
    return light


@pytest.fixture(scope="module")
def twin(real):
    home = real.home()
    assert home.live("*=trace@1+,worker.*=trace@1+") == 0, home.said()
    return home


@pytest.fixture
def reborn(real, twin):
    """A home of the same identity, which the deal of the text into splits hangs on."""
    home = real.home()
    home.paths.prepare()
    shutil.copy2(twin.paths.identity, home.paths.identity)
    return home


@pytest.mark.parametrize(
    "fault",
    [
        *(f"worker.{what}.{when}=kill@2" for what in ("checkpoint", "best", "update") for when in ("before", "after")),
        "worker.step.after=kill@3",
        "worker.collaborate.before=kill@2",
        "worker.collaborate.after=kill@2",
        "worker.checkpoint.after=kill@1",
        "worker.checkpoint.before=kill@5",
        "handover.training.before=kill@2",
        "blob.rename.after=kill@4",
        "rows.checkpoint.commit.before=kill@3",
        "rows.checkpoint.commit.after=kill@3",
        "rows.checkpoint.commit.after=kill@4",
        "announcement.speak.before=kill@2",
        "announcement.speak.after=kill@3",
        "handover.merge.before=kill@2",
        "handover.merge.after=kill@2",
    ],
)
def test_killed_at_a_point_it_ends_with_the_bits_of_its_twin(reborn, twin, fault):
    assert reborn.live(fault) == KILLED
    assert reborn.live() == 0, reborn.said()

    assert reborn.worse_than(twin) == []


def test_killed_at_twelve_random_moments_it_ends_with_the_bits_of_its_twin(reborn, twin):
    dice, kills = random.Random(7), 0
    while kills < 12 and reborn.live(kill_after=dice.uniform(0.1, 2.0)) == KILLED:
        kills += 1
    assert reborn.live() == 0, reborn.said()

    assert kills > 2
    assert reborn.worse_than(twin) == []
