"""How long the loop was held."""

import asyncio
import time

from peerd.machine.loop_watch import LoopWatch


def watched(hold):
    async def scenario():
        watch = LoopWatch()
        async with asyncio.TaskGroup() as tasks:
            beat = tasks.create_task(watch.run())
            await asyncio.sleep(0.01)
            hold()
            await asyncio.sleep(0.03)
            beat.cancel()
        return watch.now()

    return asyncio.run(scenario())


def burn(seconds=0.06):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_callback_that_computes_shows_as_cpu_time_and_as_lag():
    now = watched(burn)

    assert now.max_callback_cpu_ms >= 55
    assert now.max_lag_ms >= 25


def test_a_callback_that_waits_shows_as_lag_alone():
    now = watched(lambda: time.sleep(0.06))  # the watch is about callbacks that hold the loop

    assert now.max_callback_cpu_ms < 40
    assert now.max_lag_ms >= 25
