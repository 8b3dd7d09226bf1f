"""What the machine may do to a daemon: clocks that jump, a worker that hangs or will not start, disks that refuse."""

import asyncio
import errno
import itertools
import shutil
import sys
import types

import pytest

from peerd.errors import StoreError
from peerd.machine import shortages as machine_watch
from peerd.pacing import Backoff
from peerd.store.blobs import FileBlobs
from peerd.store.sqlite import SqliteStore
from peerd.worker.supervisor import Deadlines


def address_of(running):
    return f"/memory/{running.me}/p2p/{running.me}"


def introduce(one, other):
    from peerd.net.transport import Found

    one.daemon._found(Found(other.me, (address_of(other),), "test"))


async def together(a, b):
    for one in (a, b):
        await one.until(lambda one=one: one.status().addresses and one.status().state != "starting")
    introduce(a, b)


@pytest.mark.parametrize(
    "jumps", [(3600.0, -3600.0), (-3600.0, 3600.0), (3600.0,), (-3600.0,)], ids=["strobe", "reverse", "on", "back"]
)
def test_a_clock_that_jumps_by_an_hour_stops_no_round_and_puts_no_record_out_of_order(world, jumps):
    clock = itertools.chain([1_000_000.0] * 3, itertools.cycle(1_000_000.0 + jump for jump in jumps))

    async def scenario():
        ports = world.ports(unix=lambda: next(clock))
        async with (
            world.daemon("a", ports=ports, rounds=0, collect_seconds=1.0) as a,
            world.daemon("b", ports=ports, rounds=0, collect_seconds=1.0) as b,
        ):
            await together(a, b)
            if len(jumps) == 1:  # both clocks agree again; while they do not, what the other says is not fresh
                await a.until(lambda: any(b.me in record.row for record in a.journal.records))
            await a.rounds(6)
            rounds = [record.round for record in a.journal.records]

            assert rounds == list(range(1, len(rounds) + 1))
            assert a.status().banned == b.status().banned == []

    asyncio.run(scenario())


@pytest.mark.parametrize("then", [1_000_000.0 - 3600, 1_000_000.0 + 3600])
def test_a_ban_kept_before_the_clock_jumped_ends_no_later_than_it_was_meant_to(world, then):
    from peerd.daemon.resume import standing_of
    from peerd.store.port import KeptBan

    ban = KeptBan(peer="p", until_unix=1_000_600.0, seconds=600.0, bans=1, reason="replay")

    assert standing_of(ban, 50.0, then).until <= 50.0 + 600.0


def test_an_hour_back_between_two_runs_gives_no_sequence_number_twice(world):
    orders = []

    async def scenario():
        for unix in (1_000_000.0, 996_400.0, 1_003_600.0):
            async with world.daemon(ports=world.ports(unix=lambda unix=unix: unix), rounds=len(orders) + 1) as one:
                await one.until(lambda one=one: one.status().state == "resting")
                orders.append(one.shell.node.own.order)

    asyncio.run(scenario())

    assert orders == sorted(set(orders))


async def replaced_once_it_hangs(running):
    """Soon, and its successor is given all the time it needs."""
    running.worker._deadlines = Deadlines(open=100.0, other=1.0, look=0.2)
    await running.until(lambda: running.worker._restarts == 1)
    running.worker._deadlines = Deadlines()


def test_a_worker_that_is_stopped_in_the_middle_of_a_job_is_replaced_and_the_numbers_stay_the_same(world):
    async def scenario():
        async with world.daemon(kind="stops once") as running:
            await replaced_once_it_hangs(running)
            records = await running.rounds(3)
            status = running.status()

            assert "it hung: no sign of life" in status.worker.last_error
            assert "while training" in status.worker.last_error
            assert status.worker.restarts == 1
            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0, 8.5])

    asyncio.run(scenario())


def test_a_worker_that_hangs_in_the_merge_is_replaced(world):
    async def scenario():
        async with world.daemon(kind="hangs merging once") as running:
            await replaced_once_it_hangs(running)
            records = await running.rounds(3)

            assert "while collaborating" in running.status().worker.last_error
            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0, 8.5])

    asyncio.run(scenario())


def test_a_worker_that_dies_at_every_start_is_tried_ever_more_rarely_and_health_says_why(world):
    async def scenario():
        ports = world.ports(worker=lambda: [sys.executable, "-c", "import sys; sys.exit('no such library')"])
        async with world.daemon(ports=ports) as running:
            running.worker._pauses = Backoff(first=0.01)
            await running.until(lambda: running.worker._restarts >= 4)
            status = running.status()

            assert status.state == "starting"
            assert not status.health.ok
            assert "no such library" in status.health.reasons[0]
            assert running.worker._pauses.after(running.worker._deaths) >= 0.08

    asyncio.run(scenario())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_worker_that_cannot_be_started_for_a_while_is_started_later(world, monkeypatch, number):
    really, refused = asyncio.create_subprocess_exec, []

    async def refuse_twice(*arguments, **options):
        if len(refused) < 2:
            refused.append(number)
            raise OSError(number, "no more of that")
        return await really(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse_twice)

    async def scenario():
        async with world.daemon(rounds=1) as running:
            running.worker._pauses = Backoff(first=0.01)
            await running.rounds(1)

            assert "it cannot be started: no more of that" in running.status().worker.last_error

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("owner", "method"),
    [(SqliteStore, "save_checkpoint"), (FileBlobs, "adopt"), (SqliteStore, "_save_document")],
)
def test_a_full_disk_is_said_waited_out_and_costs_no_number(world, monkeypatch, owner, method):
    is_full, really = asyncio.Event(), getattr(owner, method)

    def refuse(*arguments, **options):
        if is_full.is_set():
            raise StoreError("cannot write: No space left on device", "free some disk space")
        return really(*arguments, **options)

    async def scenario():
        async with world.daemon(rounds=4) as running:
            running.journal._pauses = Backoff(first=0.01, longest=0.05)
            await running.rounds(1)
            monkeypatch.setattr(owner, method, refuse)
            is_full.set()
            if method != "_save_document":
                await running.until(lambda: running.journal.trouble)
                health = running.status().health
                assert not health.ok
                assert "free some disk space" in " ".join(health.reasons)
            else:
                await running.rounds(2)
            is_full.clear()
            records = await running.rounds(4)
            await running.until(lambda: running.status().state == "resting")

            assert running.status().health.ok
            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0, 8.5, 8.0])

    asyncio.run(scenario())


def test_an_update_that_finds_no_room_on_disk_is_fetched_later_and_held_against_nobody(world, monkeypatch):
    really, refused = FileBlobs.append_partial, []

    def refuse_twice(*arguments):
        if len(refused) < 2:
            refused.append(arguments)
            raise StoreError("cannot keep blobs: No space left on device", "free some disk space")
        return really(*arguments)

    monkeypatch.setattr(FileBlobs, "append_partial", refuse_twice)

    async def scenario():
        async with (
            world.daemon("a", rounds=0, collect_seconds=1.0) as a,
            world.daemon("b", rounds=0, steps_per_round=7, collect_seconds=1.0) as b,
        ):
            await together(a, b)
            await a.until(lambda: any(b.me in record.row for record in a.journal.records))

            assert len(refused) == 2
            assert a.status().banned == b.status().banned == []
            assert a.status().refused == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), StoreError("the disk is full")])
def test_trouble_of_the_own_shelf_is_no_trouble_of_the_network(error):
    from peerd.net.libp2p import blobs
    from peerd.net.libp2p.pace import Pace
    from peerd.net.limits import TrafficLedger

    class Full:
        def append_partial(self, *_):
            raise error

    transfer = blobs._Transfer(Full(), TrafficLedger(), Pace(0), "a" * 64, 10)

    with pytest.raises(blobs.ShelfTroubleError, match=r"disk|space"):
        transfer._append(0, bytearray(b"data"))


def test_low_space_is_said_before_it_runs_out(tmp_path, monkeypatch):
    gib = 2**30
    answers = {(1000, 150): "", (1000, 1): "Only 1,024 MiB are free", (10, 0.9): "Only 922 MiB", (10, 1.1): ""}
    for (total, free), expected in answers.items():
        usage = types.SimpleNamespace(total=total * gib, free=free * gib)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)

        assert machine_watch.low_disk(tmp_path).startswith(expected)
        assert bool(machine_watch.low_disk(tmp_path)) == bool(expected)


def test_few_descriptors_left_are_said(monkeypatch):
    assert machine_watch.few_descriptors() == ""
    monkeypatch.setattr(machine_watch.resource, "getrlimit", lambda _: (8, 8))
    assert "of 8 file descriptors are open" in machine_watch.few_descriptors()


def test_what_the_machine_is_short_of_is_part_of_health(world, monkeypatch):
    usage = types.SimpleNamespace(total=100 * 2**30, free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)

    async def scenario():
        async with world.daemon(rounds=1) as running:
            await running.until(lambda: not running.status().health.ok)

            assert "Only 1 MiB are free" in running.status().health.reasons[0]

    asyncio.run(scenario())
