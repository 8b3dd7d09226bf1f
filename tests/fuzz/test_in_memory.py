"""Whole daemons among strangers with valid keys, for a bounded time; `python -m tests.fuzz.in_memory` goes on for longer."""

from __future__ import annotations

import asyncio
import logging
import os
from random import Random

import pytest

from tests.fuzz.awaits import Thrower
from tests.fuzz.in_memory import played
from tests.fuzz.virtual import play

SEED = int(os.environ.get("PEERD_FUZZ_SEED", "1"))


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "peerd")


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_whatever_strangers_with_valid_keys_say_no_daemon_ends_and_no_honest_connection_is_dropped(seed: int) -> None:
    world = played(seed, 120)

    assert world.said > 50
    assert all(device.failures == {} and device.doubts == [] for device in world.devices)


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_exceptions_out_of_any_await_end_no_daemon_but_in_order_and_drop_no_honest_connection(seed: int) -> None:
    world = played(seed, 80, odds=0.004)

    assert world.thrower is not None
    assert world.thrower.struck.total() >= 10


def test_time_jumps_where_nothing_is_left_to_do() -> None:
    async def scenario() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(asyncio.sleep(3600.0), asyncio.sleep(1.0))
        return asyncio.get_running_loop().time() - began

    assert 3600.0 <= play(scenario()) < 3601.0


def test_whoever_waits_for_ever_is_told() -> None:
    with pytest.raises(RuntimeError, match="everybody waits"):
        play(asyncio.Event().wait())


def test_the_same_seed_strikes_the_same_awaits_and_only_those_aimed_at() -> None:
    def struck(seed: int) -> dict[str, int]:
        thrower = Thrower(Random(seed), odds=0.3)

        async def waits() -> int:
            survived = 0
            for _ in range(20):
                try:
                    await asyncio.sleep(1.0)
                    survived += 1
                except BaseException as error:
                    if not isinstance(error, Exception | asyncio.CancelledError):
                        raise
            return survived

        async def scenario() -> tuple[int, int]:
            asyncio.get_running_loop().set_task_factory(thrower.factory)
            thrower.is_armed = True
            async with asyncio.TaskGroup() as tasks:
                with thrower.aimed():
                    aimed = tasks.create_task(waits())
                other = tasks.create_task(waits())
            return aimed.result(), other.result()

        aimed, other = play(scenario())
        assert other == 20
        assert aimed + thrower.struck.total() == 20
        return dict(thrower.struck)

    assert struck(1) == struck(1)
    assert struck(1) != struck(3)


def test_what_waits_for_its_tasks_in_a_group_is_not_struck_and_the_tasks_are() -> None:
    thrower = Thrower(Random(1), odds=1.0)

    async def main_task() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(1.0))

    async def scenario() -> None:
        asyncio.get_running_loop().set_task_factory(thrower.factory)
        thrower.is_armed = True
        with thrower.aimed():
            task = asyncio.create_task(main_task())
        await asyncio.wait([task])
        assert isinstance(task.exception(), ExceptionGroup) or task.cancelled()

    play(scenario())
    assert thrower.struck.total() == 1
