"""My own words from elsewhere: a double that runs, or a life that this home has forgotten; nothing that strangers make up."""

from __future__ import annotations

from typing import Any

import pytest

from peerd.core import events as on
from peerd.core.doubles import running
from peerd.core.limits import DOUBLE_SECONDS, MAX_AGE_SECONDS

EPOCH = 1000


@pytest.fixture
def play(playbook: Any) -> Any:
    """An hour after the start of a run that went on with round 7."""
    play = playbook(epoch=EPOCH, said_before=(900, 64))
    play.worker(round=7)
    play.connect("peer-good")
    play.tick(3600.0)
    return play


def hear_myself(play: Any, *, epoch: int, age: float = 1.0, sequence: int = 1, **fields: Any) -> Any:
    said = play.said("peer-me", sequence, epoch=epoch, **fields)
    return play.tell(on.AnnouncementHeard, announcement=said, via="peer-good", age_seconds=age)


@pytest.mark.parametrize("epoch", [EPOCH + 5, EPOCH - 5])
def test_a_double_that_began_before_or_after_me_is_told_of_once_and_shown(play: Any, epoch: int) -> None:
    effects = [*hear_myself(play, epoch=epoch, round=9), *hear_myself(play, epoch=epoch, round=10, sequence=2)]

    assert [effect.message.startswith("another daemon runs with this identity") for effect in effects] == [True]
    double = running(play.node)
    assert double is not None
    assert double.round == 10
    assert not play.node.lost


def test_a_double_that_has_ended_is_forgotten(play: Any) -> None:
    hear_myself(play, epoch=EPOCH + 5)
    play.tick(DOUBLE_SECONDS + 1.0)

    assert running(play.node) is None


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"epoch": EPOCH}, "this run said it"),
        ({"epoch": 900, "sequence": 64}, "a run before said it, and a clock that was ahead sealed it"),
        ({"epoch": 700}, "the same"),
        ({"epoch": EPOCH + 5, "age": -61.0}, "sealed in the future"),
        ({"epoch": EPOCH + 5, "age": MAX_AGE_SECONDS + 1.0}, "a recording of a double that may have ended long ago"),
        ({"epoch": EPOCH + 5, "age": -1e300}, "a number that is no time"),
    ],
)
def test_what_a_stranger_can_bring_back_makes_no_double(play: Any, said: dict[str, Any], why: str) -> None:
    assert hear_myself(play, **said) == [], why
    assert running(play.node) is None
    assert not play.node.lost


def test_a_life_that_this_home_has_forgotten_is_told_with_its_last_round(play: Any) -> None:
    effects = hear_myself(play, epoch=950, age=7200.0, round=30)
    effects += hear_myself(play, epoch=950, age=7100.0, round=31, sequence=2)
    effects += hear_myself(play, epoch=950, age=7200.0, round=30)

    assert [effect.message.rpartition(" ")[2] for effect in effects] == ["30", "31"]
    assert (play.node.resumed, play.node.lost) == (7, 31)
    assert running(play.node) is None


def test_a_life_before_that_had_come_no_farther_than_this_home_is_no_loss(play: Any) -> None:
    assert hear_myself(play, epoch=950, age=7200.0, round=6) == []
    assert not play.node.lost


def test_however_often_it_is_brought_my_own_words_change_nothing_else(play: Any) -> None:
    before = play.node
    for number in range(200):
        hear_myself(play, epoch=EPOCH + 5, sequence=number + 1, network="b" * 64 if number % 2 else "a" * 64)

    assert (play.node.neighbours, play.node.standings, play.node.refused) == (before.neighbours, {}, {})
