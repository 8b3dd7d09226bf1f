"""Whose turn it is, by a clock that a test moves."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.speech import Sampling
from peerd.worker.messages import Respond
from peerd.worker.process import RESPONSES_AT_ONCE
from peerd.worker.rota import UNEARNED, Rota


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(number: int) -> Respond:
    return Respond(id=number, which="own", prompt="", chat=(), sampling=Sampling(max_tokens=1), cuts=True)


class Play:
    """Steps of training and turns of answers that never end, with a length each."""

    def __init__(self, share: float) -> None:
        self.clock = Clock()
        self.turns = Rota(self.clock, share)
        self.story: list[int] = []

    def step(self, seconds: float, turn: float = 1.0, most: int = 10_000) -> int:
        """How many turns came after it."""
        self.turns.work_begins()
        self.clock.now += seconds
        self.turns.work_pauses()
        count = 0
        while self.turns.is_time() and count < most:
            running = self.turns.take()
            running.passes = iter(())
            self.story.append(running.job.id)
            self.clock.now += turn
            self.turns.turn_over()
            self.turns.put_back(running)
            count += 1
        self.turns.work_begins()
        return count


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.5), (0.8, 0.8), (0.1, 0.1)])
def test_over_a_while_answers_have_had_their_share_of_the_time(share: float, expected: float) -> None:
    play = Play(share)
    play.turns.add(asked(1))
    turns = sum(play.step(3.0, turn=0.7) for _ in range(100))

    assert turns * 0.7 / play.clock.now == pytest.approx(expected, abs=0.01)


def test_with_all_the_share_work_waits_until_nobody_waits() -> None:
    play = Play(1.0)
    play.turns.add(asked(1))

    assert play.step(1.0, most=500) == 500


def test_who_asks_waits_for_one_step_even_if_others_have_used_the_share_up() -> None:
    play = Play(0.5)
    play.turns.add(asked(1))
    play.step(1.0, turn=100.0)
    play.turns.add(asked(2))
    play.step(1.0)

    assert play.story == [1, 2]
    assert play.step(1.0) == 0


def test_answers_take_turns_and_a_new_one_is_next() -> None:
    play = Play(0.5)
    for number in (1, 2):
        play.turns.add(asked(number))
    play.step(4.0)
    play.turns.add(asked(3))
    play.step(3.0)

    assert play.story == [2, 1, 2, 1, 3, 2, 1]


def test_who_left_has_no_more_turns_and_leaves_no_time_to_who_comes_later() -> None:
    play = Play(0.5)
    play.turns.add(asked(1))
    play.step(5.0, most=1)
    gone: Any = play.turns.remove(1)

    assert gone.job.id == 1
    assert play.turns.remove(1) is None
    assert play.step(100.0) == 0
    play.turns.add(asked(2))
    assert play.step(2.0) == 2


def test_a_flood_of_questions_that_end_at_once_leaves_time_for_the_work() -> None:
    clock = Clock()
    turns, count = Rota(clock, 0.5), 0
    clock.now += 1.0
    turns.work_pauses()
    turns.add(asked(0))
    while turns.is_time() and count < 1000:
        turns.take()
        clock.now += 1.0
        turns.turn_over()
        count += 1
        turns.add(asked(count))

    assert count == UNEARNED == RESPONSES_AT_ONCE
