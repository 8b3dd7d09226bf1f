"""Kills at random moments and points, again and again, recovery included: the end is that of a twin that nobody killed."""

import math
import os
import random

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLED = -9
ROUNDS = 4
SEED = int(os.environ.get("PEERD_CRASH_SEED", "1"))


def death(dice):
    """How a life ends: at a random point, each with odds between 1/8 and 1/24, or at a random moment."""
    if dice.random() < 0.5:
        odds = 1 / dice.randint(8, 24)
        spared = math.floor(math.log(1.0 - dice.random()) / math.log(1.0 - odds))
        return {"fault": f"*=kill@{1 + spared}"}
    return {"kill_after": dice.uniform(0.002, 0.25)}


def killed_again_and_again(home, dice, most):
    """(kills, those before it spoke) until a life gets through its rounds or the kills are used up."""
    kills = early = 0
    while kills < most:
        spoken = len(home.spoken())
        code = home.live(**death(dice))
        if code == 0:
            break
        assert code == KILLED, home.said()[-3000:]
        kills += 1
        early += len(home.spoken()) == spoken
    return kills, early


@pytest.mark.parametrize(("company", "cycles"), [(False, 40), (True, 20)], ids=["alone", "in company"])
def test_random_kills_change_nothing(light, company, cycles):
    dice, where = random.Random(SEED), f"PEERD_CRASH_SEED={SEED} repeats it"
    twin = light.home(rounds=ROUNDS, company=company)
    assert twin.live() == 0, twin.said()
    kills = early = 0
    while kills < cycles:
        home = light.home(**twin.options)
        more, more_early = killed_again_and_again(home, dice, cycles - kills)
        assert home.live() == 0, f"{home.said()[-3000:]} {where}"
        wrong = home.broken(twin) if company else home.worse_than(twin)
        assert not wrong, f"{wrong} after {more} kills; {where}"
        kills, early = kills + more, early + more_early
        home.remove()

    assert early >= 1  # some of them hit it while it recovered
