"""The loop around the core, with effects performed by nobody or by a test."""

import asyncio
import itertools

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd import shell as shell_module
from peerd.core.effects import Dial, Train
from peerd.core.events import Ticked, WorkerStarted
from peerd.core.node import begin
from peerd.core.settings import Settings
from peerd.shell import INBOX, Shell
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


def test_a_bug_in_a_performer_is_not_swallowed():
    async def perform(effect):
        raise ZeroDivisionError

    shell = made(perform)

    async def scenario():
        await shell.tell(started())
        await shell.run()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(scenario())
    assert isinstance(raised.value.exceptions[0], ZeroDivisionError)


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
