"""The thread bridge between asyncio and trio, without any network."""

from __future__ import annotations

import asyncio

import pytest
import trio
import uvloop

from peerd.net.libp2p.bridge import Bridge, BridgeClosed, flatten


async def idle(stopping, *, task_status):
    task_status.started("ready")
    await stopping.wait()


def play(scenario, program=idle):
    async def main():
        bridge = Bridge(program, name="test")
        try:
            async with asyncio.timeout(20):
                await scenario(bridge)
        finally:
            if hasattr(bridge, "closed"):
                await bridge.stop(5.0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_program_starts_answers_and_stops():
    async def scenario(bridge):
        async def double(number):
            await trio.lowlevel.checkpoint()
            return 2 * number

        assert await bridge.start() == "ready"
        assert await bridge.call(double, 21) == 42
        assert await bridge.stop(5.0)
        assert bridge.closed.result() is None

    play(scenario)


def test_what_a_call_raises_comes_back_and_ends_nothing_else():
    async def scenario(bridge):
        async def fail():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(refuse)

        async def refuse():
            raise LookupError("nobody")

        await bridge.start()

        with pytest.raises(LookupError, match="nobody"):
            await bridge.call(fail)
        assert await bridge.call(number) == 1

    async def number():
        return 1

    play(scenario)


def test_cancelling_a_call_cancels_it_on_the_other_side():
    async def scenario(bridge):
        ended, begun = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def wait():
            loop.call_soon_threadsafe(begun.set)
            try:
                await trio.sleep_forever()
            finally:
                loop.call_soon_threadsafe(ended.set)

        await bridge.start()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(bridge.call(wait), name="call")
            await begun.wait()
            call.cancel()
        await ended.wait()

        assert call.cancelled()

    play(scenario)


def test_what_a_program_dies_of_before_it_is_ready_is_raised_by_start():
    async def broken(stopping, *, task_status):
        raise OSError("no network")

    async def scenario(bridge):
        with pytest.raises(OSError, match="no network"):
            await bridge.start()

    play(scenario, broken)


def test_a_program_that_dies_later_ends_its_calls_and_is_told_by_closed():
    fuse = []

    async def dying(stopping, *, task_status):
        fuse.append(trio.Event())
        task_status.started()
        await fuse[0].wait()
        raise RuntimeError("died")

    async def scenario(bridge):
        async def light():
            fuse[0].set()
            await trio.sleep_forever()

        await bridge.start()

        with pytest.raises(BridgeClosed):
            await bridge.call(light)
        await asyncio.wait({bridge.closed})
        assert isinstance(bridge.closed.exception(), RuntimeError)
        with pytest.raises(BridgeClosed):
            await bridge.call(light)
        assert await bridge.stop(5.0)

    play(scenario, dying)


def test_stopping_ends_calls_that_are_under_way():
    async def scenario(bridge):
        await bridge.start()
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_closed(bridge.call(trio.sleep_forever)), name="call")
            await bridge.call(trio.lowlevel.checkpoint)
            assert await bridge.stop(5.0)

        assert call.result()

    async def _closed(call):
        with pytest.raises(BridgeClosed):
            await call
        return True

    play(scenario)


def test_a_program_that_does_not_listen_is_cancelled():
    async def deaf(stopping, *, task_status):
        task_status.started()
        await trio.sleep_forever()

    async def scenario(bridge):
        await bridge.start()

        assert await bridge.stop(0.5)

    play(scenario, deaf)


def test_a_program_that_cannot_even_be_cancelled_is_left_behind():
    async def stuck(stopping, *, task_status):
        task_status.started()
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await trio.sleep_forever()

    async def scenario(bridge):
        await bridge.start()

        assert not await bridge.stop(0.1)

    play(scenario, stuck)


def test_a_group_of_one_is_that_one():
    one = ValueError("one")

    assert flatten(ExceptionGroup("", [ExceptionGroup("", [one])])) is one
    assert isinstance(flatten(ExceptionGroup("", [one, one])), ExceptionGroup)


def test_the_trio_side_calls_back_and_what_that_raises_or_who_cancels_it_ends_nothing_else():
    async def scenario(bridge):
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def double(number):
            await asyncio.sleep(0)
            return 2 * number

        async def refuse():
            raise LookupError("nobody")

        async def hang():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async def in_haste():
            with trio.move_on_after(0.05):
                await bridge.call_back(hang)
            return "went on"

        await bridge.start()

        assert await bridge.call(bridge.call_back, double, 21) == 42
        with pytest.raises(LookupError, match="nobody"):
            await bridge.call(bridge.call_back, refuse)
        assert await bridge.call(in_haste) == "went on"
        await cancelled.wait()

    play(scenario)
