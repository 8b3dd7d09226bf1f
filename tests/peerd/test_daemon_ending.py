"""Signals and the last deadline, without a daemon."""

import asyncio
import os
import signal
import threading

import pytest

from peerd.machine.ending import ECHO_SECONDS, Ending, asked_by, deaf_to_hangups


class Story:
    def __init__(self, orderly_seconds=60.0):
        self.told, self.left, self.now = [], threading.Event(), 0.0
        self.ending = Ending(
            lambda reason: self.told.append(f"ask {reason}"),
            lambda: self.told.append("kill"),
            leave=self.leave,
            clock=lambda: self.now,
            orderly_seconds=orderly_seconds,
        )

    def leave(self, code):
        self.told.append(f"leave {code}")
        self.left.set()


def test_the_first_signal_asks_and_the_second_does_not():
    story = Story()
    story.ending.signalled(signal.SIGTERM)
    assert story.told == ["ask SIGTERM"]
    story.now = ECHO_SECONDS
    story.ending.signalled(signal.SIGINT)

    assert story.told == ["ask SIGTERM", "kill", "leave 1"]
    story.ending._timer.cancel()


def test_one_wish_that_comes_as_two_signals_asks_once():
    story = Story()
    story.ending.signalled(signal.SIGTERM)
    story.now = ECHO_SECONDS / 2
    story.ending.signalled(signal.SIGTERM)  # `timeout` signals the process, and then its group
    story.ending.signalled(signal.SIGINT)
    story.ending._timer.cancel()

    assert story.told == ["ask SIGTERM"]


def test_a_signal_after_peerd_stop_is_a_second_wish_at_once():
    story = Story()
    story.ending.begin("peerd stop")
    story.ending.signalled(signal.SIGTERM)
    story.ending._timer.cancel()

    assert story.told == ["ask peerd stop", "kill", "leave 1"]


def test_an_end_that_takes_too_long_is_forced_from_another_thread():
    story = Story(orderly_seconds=0.01)
    story.ending.begin("peerd stop")

    assert story.left.wait(60)
    assert story.told == ["ask peerd stop", "kill", "leave 1"]


def test_a_disk_that_hangs_does_not_hold_up_a_forced_end():
    story, free = Story(), threading.Event()
    story.ending._tidy = free.wait
    story.ending.force()
    free.set()

    assert story.told == ["kill", "leave 1"]


def test_a_terminal_that_closes_asks_once_however_often_its_signal_comes():
    story = Story()
    for number in (signal.SIGHUP, signal.SIGHUP):
        story.ending.signalled(number)
    assert story.told == ["ask SIGHUP"]
    story.now = ECHO_SECONDS
    story.ending.signalled(signal.SIGTERM)

    assert story.told == ["ask SIGHUP", "kill", "leave 1"]
    story.ending._timer.cancel()


def test_a_hangup_that_is_ignored_at_the_start_stays_ignored():
    assert signal.SIGHUP in asked_by()
    with deaf_to_hangups():
        assert signal.SIGHUP not in asked_by()
    assert signal.SIGHUP in asked_by()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_real_signals_arrive_in_the_loop(number):
    story = Story()

    async def scenario():
        story.ending.listen()
        os.kill(os.getpid(), number)
        while not story.told:  # noqa: ASYNC110  # the signal arrives through the loop itself
            await asyncio.sleep(0)
        story.ending.ignore()

    asyncio.run(scenario())

    assert story.told == [f"ask {number.name}"]


def test_a_signal_that_comes_when_all_is_over_changes_nothing():
    story = Story()

    async def scenario():
        story.ending.listen()
        story.ending.begin("peerd stop")
        story.ending.ignore()
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            await asyncio.sleep(0.001)

    asyncio.run(scenario())

    assert story.told == ["ask peerd stop"]


def test_what_is_over_cannot_be_ended_again():
    story = Story(orderly_seconds=0.0)

    async def scenario():
        story.ending.ignore()
        story.ending.begin("late")

    asyncio.run(scenario())

    assert story.told == []
