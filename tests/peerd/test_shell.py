"""The loop around the core, with effects performed by nobody or by a test."""

import asyncio
import itertools

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core.effects import Dial, Train
from peerd.core.events import PeerFound, StopAsked, Ticked, WorkerDied, WorkerStarted
from peerd.core.node import begin
from peerd.core.phases import Starting
from peerd.core.settings import Settings
from peerd.daemon import shell as shell_module
from peerd.daemon.shell import INBOX, Shell
from peerd.errors import StoreError, Unforeseen
from peerd.wire.messages import PeerRecord

ME, BOB = PeerId("12D3KooWme"), PeerId("12D3KooWbob")


def started():
    return WorkerStarted(
        at=1.0,
        network=Digest("0" * 64),
        device="cpu",
        max_blob_bytes={},
        round=Round(1),
        trained=False,
        best_guard=None,
    )


def made(perform, known=()):
    return Shell(begin(Settings(), ME, 0.0, known), perform, lambda: 2.0)


async def nobody(effect):
    return None


def test_first_effects_are_performed_and_named(caplog):
    performed = []

    async def perform(effect):
        performed.append((asyncio.current_task().get_name(), effect))
        shell.ask_to_stop("enough")

    shell = made(perform, [PeerRecord(peer=BOB, addresses=("/memory/bob",))])
    reason = asyncio.run(shell.run())

    assert reason == "enough"
    assert performed == [("Dial", Dial(peer=BOB, addresses=("/memory/bob",)))]


def test_an_event_goes_through_the_core_and_its_effects_are_performed():
    async def perform(effect):
        if isinstance(effect, Train):
            shell.ask_to_stop("trained")

    shell = made(perform)

    async def scenario():
        await shell.tell(started())
        return await shell.run()

    assert asyncio.run(scenario()) == "trained"


def test_what_is_being_performed_is_cancelled_at_the_end():
    cancelled = []

    async def perform(effect):
        shell.ask_to_stop("now")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(effect)
            raise

    shell = made(perform)

    async def scenario():
        await shell.tell(started())
        await shell.run()

    asyncio.run(scenario())

    assert [type(effect) for effect in cancelled] == [Train]


def test_a_stop_goes_before_a_full_inbox():
    shell = made(nobody)

    async def scenario():
        for _ in range(INBOX + 5):
            shell.tell_soon(Ticked(at=1.0))
        shell.ask_to_stop("urgent")
        return await shell.run()

    assert asyncio.run(scenario()) == "urgent"
    assert shell.dropped == 6
    assert shell.node.at == 2.0


def test_time_passes(monkeypatch):
    monkeypatch.setattr(shell_module, "TICK_SECONDS", 0.0)
    seconds = itertools.count()
    shell = Shell(begin(Settings(), ME, 0.0), nobody, lambda: float(next(seconds)))

    async def scenario():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(shell.run())
            changes = shell.changes()
            while shell.node.at < 3:
                await anext(changes)
            shell.ask_to_stop("late")

    asyncio.run(scenario())

    assert shell.node.at >= 3


def test_many_changes_are_one_wake_and_a_watcher_that_left_is_forgotten():
    shell = made(nobody)

    async def scenario():
        changes = shell.changes()
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(anext(changes))
            await asyncio.sleep(0)
            for _ in range(3):
                await shell.tell(Ticked(at=1.0))
            shell.ask_to_stop("done")
            await shell.run()
            await first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(changes)
        return shell._watchers

    assert asyncio.run(scenario()) == set()


def failing(error, **options):
    """A shell whose performer fails at the first effect it is given, and what the shell's `failed` was told."""
    told = []

    async def perform(effect):
        if isinstance(effect, Train):
            raise error

    def failed(effect, reason):
        told.append((type(effect).__name__, reason))
        return WorkerDied(at=2.0, reason=reason)

    shell = Shell(begin(Settings(), ME, 0.0), perform, lambda: 2.0, failed=failed, **options)
    return shell, told


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("surprise"),
        ExceptionGroup("several", [ZeroDivisionError("surprise")]),
        MemoryError(),
        asyncio.CancelledError(),  # of somebody else's: this task was not cancelled
        StoreError("not foreseen here"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_effect_is_recorded_and_answered_and_the_shell_goes_on(error):
    shell, told = failing(error)

    async def scenario():
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(shell.run())
            await shell.tell(started())
            changes = shell.changes()
            while not isinstance(shell.node.phase, Starting) or not told:
                await anext(changes)
            shell.ask_to_stop("enough")
            return await run

    assert asyncio.run(scenario()) == "enough"
    assert [name for name, _ in told] == ["Train"]
    assert shell._failures.now().counts == {"Train": 1}
    assert shell._failures.now().last.startswith("Train: ")
    assert shell.doubt is None


def test_an_effect_that_failed_while_it_recorded_ends_the_shell_in_order_and_says_why():
    shell, told = failing(Unforeseen.of("recording a checkpoint", "ZeroDivisionError"))

    async def scenario():
        await shell.tell(started())
        return await shell.run()

    reason = asyncio.run(scenario())

    assert "recording a checkpoint" in reason
    assert shell.doubt is not None
    assert shell.doubt.exit_code == 1
    assert "peerd start" in shell.doubt.hint
    assert told == []


def test_a_real_cancellation_is_none_of_the_boundary():
    async def perform(effect):
        if isinstance(effect, Train):
            await asyncio.Event().wait()

    shell = made(perform)

    async def scenario():
        await shell.tell(started())
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(shell.run())
            await asyncio.sleep(0.01)
            run.cancel()

    asyncio.run(scenario())

    assert shell._failures.now().counts == {}


def broken_at(monkeypatch, kind):
    really = shell_module.step

    def step(node, event):
        if isinstance(event, kind):
            raise ZeroDivisionError("the core cannot take it")
        return really(node, event)

    monkeypatch.setattr(shell_module, "step", step)


def test_an_event_that_the_core_cannot_take_is_left_out(monkeypatch):
    broken_at(monkeypatch, PeerFound)
    shell = made(nobody)

    async def scenario():
        await shell.tell(PeerFound(at=1.0, peer=BOB, addresses=("/memory/bob",), how="test"))
        await shell.tell(Ticked(at=5.0))
        await shell.tell(StopAsked(at=6.0, reason="enough"))
        return await shell.run()

    assert asyncio.run(scenario()) == "enough"
    assert shell.node.at == 6.0
    assert shell._failures.now().counts == {"core at PeerFound": 1}


def test_an_event_that_the_core_waits_for_and_cannot_take_ends_the_shell_in_order(monkeypatch):
    broken_at(monkeypatch, WorkerStarted)
    shell = made(nobody)

    async def scenario():
        await shell.tell(started())
        return await shell.run()

    assert "core at WorkerStarted" in asyncio.run(scenario())
    assert shell.doubt is not None


def test_time_that_stands_still_for_a_minute_ends_the_shell_in_order(monkeypatch):
    broken_at(monkeypatch, Ticked)
    shell = made(nobody)

    async def scenario():
        for _ in range(shell_module.LOST_TICKS - 1):
            await shell.tell(Ticked(at=1.0))
        async with asyncio.TaskGroup() as tasks:
            run = tasks.create_task(shell.run())
            await asyncio.sleep(0.01)
            assert shell.doubt is None
            await shell.tell(Ticked(at=1.0))
            return await run

    assert "core at Ticked" in asyncio.run(scenario())


def test_a_shell_whose_core_cannot_even_stop_stops_all_the_same(monkeypatch):
    broken_at(monkeypatch, StopAsked)
    shell = made(nobody)
    shell.ask_to_stop("enough")

    assert asyncio.run(shell.run()) == "enough"


def test_a_tick_tells_the_core_who_is_really_connected(monkeypatch):
    monkeypatch.setattr(shell_module, "TICK_SECONDS", 0.0)
    seconds = itertools.count()
    friend = PeerId("12D3KooWFriend")
    shell = Shell(begin(Settings(), ME, 0.0), nobody, lambda: float(next(seconds)), lambda: frozenset({friend}))

    async def scenario():
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(shell.run())
            changes = shell.changes()
            while friend not in shell.node.neighbours:
                await anext(changes)
            shell.ask_to_stop("seen")

    asyncio.run(scenario())

    assert shell.node.neighbours[friend].connected
