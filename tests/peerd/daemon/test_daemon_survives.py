"""What fails in a daemon without anybody having foreseen it: it is shown, and the daemon goes on or ends in order."""

import asyncio
import itertools

import pytest

from peerd.control.client import Client
from peerd.daemon.assembly import run
from peerd.errors import PeerdError, Unforeseen
from peerd.machine import lock
from peerd.store.sqlite import SqliteStore
from tests.peerd.daemon.strangers import Stranger, network_of, together


class SurpriseError(Exception):
    """Nobody foresees it."""


def fails_first(owner, name, times=1, error=SurpriseError):
    """A method of one object raises so often before it does what it should."""
    really, calls = getattr(owner, name), itertools.count()

    def instead(*arguments, **options):
        if next(calls) < times:
            raise error(name)
        return really(*arguments, **options)

    setattr(owner, name, instead)


def fail_each_effect_once(running):
    """The first of every kind raises; which have been."""
    really, failed = running.shell._perform, set()

    async def perform(effect):
        if (name := type(effect).__name__) not in failed:
            failed.add(name)
            raise SurpriseError(name)
        return await really(effect)

    running.shell._perform = perform
    return failed


def test_every_effect_may_fail_once_and_rounds_go_on_and_connections_stand(world):
    async def scenario():
        async with (
            world.daemon("a", rounds=0, collect_seconds=0.3, patience=100_000, may_fail=True) as a,
            world.daemon("b", rounds=0, collect_seconds=0.3, patience=100_000) as b,
        ):
            await together(a, b)
            a.worker._pauses = a.worker._pauses.__class__(first=0.01)
            failed = fail_each_effect_once(a)
            eve = Stranger(world, 66, network_of(a))
            await eve.meet(a)
            eve.say(eve.mouth.honest(), *eve.mouth.ban())
            wanted = {"Train", "Publish", "Collaborate", "Fetch", "Admit", "CountRefusal", "Ban", "Disconnect", "Note"}
            await a.until(lambda: wanted <= failed)
            await a.rounds(len(a.journal.records) + 3)
            status = a.status()

            assert b.me in a.daemon._network.connected()
            assert set(status.failures.counts) == failed
            assert all(count == 1 for count in status.failures.counts.values())
            assert "SurpriseError" in status.failures.last
            assert not status.health.ok
            assert any("should not" in reason for reason in status.health.reasons)
            await a.until(lambda: any(b.me in record.row for record in a.journal.records))

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["save_checkpoint", "save_announcement"])
def test_where_it_is_in_doubt_what_is_recorded_the_daemon_ends_in_order_says_so_and_goes_on_at_the_next_start(
    world, monkeypatch, method, caplog
):
    (world.folder / "text").mkdir()
    paths, config = world.paths("home"), world.config(rounds=2)
    really, calls = getattr(SqliteStore, method), itertools.count()

    def once_too_often(store, *arguments):
        really(store, *arguments)
        if next(calls) == 1:
            raise SurpriseError("after it was written")

    monkeypatch.setattr(SqliteStore, method, once_too_often)

    with pytest.raises(Unforeseen, match="ended in order") as raised:
        asyncio.run(run(paths, config, ports=world.ports()))

    assert raised.value.exit_code == 1
    assert not paths.socket.exists()
    assert list(paths.scratch.iterdir()) == []
    with pytest.raises(PeerdError, match="SurpriseError") as told:
        Client(paths.home).status()
    assert "peerd start" in told.value.hint
    assert "recording" in lock.died(paths.lock)

    seen = []

    async def again():
        async with world.daemon("home", rounds=2) as running:
            await running.until(lambda: running.status().state == "resting")
            seen.append([record.round for record in running.journal.records])

    asyncio.run(again())
    assert seen == [[1, 2]]


def test_the_next_start_shows_how_the_run_before_ended(world):
    (world.folder / "text").mkdir()
    paths, config = world.paths("home"), world.config(rounds=1)
    with pytest.raises(SurpriseError), lock.hold(paths.lock, version="1", socket=paths.socket):
        raise SurpriseError("all of a sudden")
    seen = []

    async def scenario():
        async with asyncio.TaskGroup() as tasks:
            ready = asyncio.Event()
            begun = run(paths, config, ready=lambda _: ready.set(), ports=world.ports())
            tasks.create_task(begun)
            await ready.wait()
            seen.append(await asyncio.to_thread(ask, paths))
            await asyncio.to_thread(end, paths)

    asyncio.run(scenario())

    assert seen[0].before.endswith("ended: SurpriseError: all of a sudden")
    assert seen[0].health.ok


def ask(paths):
    with Client(socket_path=paths.socket) as client:
        return client.status()


def end(paths):
    with Client(socket_path=paths.socket) as client:
        client.stop()


def test_every_lasting_task_may_fail_and_is_begun_again(world):
    async def scenario():
        async with world.daemon("a", rounds=0, collect_seconds=0.3, may_fail=True) as a, world.daemon("b") as b:
            daemon = a.daemon
            fails_first(daemon._machine, "_look")
            fails_first(daemon._loop_watch, "run")
            fails_first(daemon._ledger, "enter")
            fails_first(daemon._worker, "_make_open")
            fails_first(daemon._text, "run")
            await together(a, b)
            await a.until(lambda: len(a.status().failures.counts) >= 5)
            await a.rounds(len(a.journal.records) + 3)

            expected = {"machine watch", "loop watch", "book of what was sent", "worker", "text watch"}
            assert set(a.status().failures.counts) == expected
            assert b.me in daemon._network.connected()
            assert (await asyncio.to_thread(ask, a.paths)).failures.counts.keys() == expected

    asyncio.run(scenario())


def test_a_happening_of_the_network_that_cannot_be_told_costs_nobody_the_connection(world):
    async def scenario():
        async with (
            world.daemon("a", rounds=0, collect_seconds=0.3, patience=100_000, may_fail=True) as a,
            world.daemon("b", rounds=0) as b,
        ):
            await together(a, b)
            fails_first(a.daemon._network, "_event", times=3)
            await a.until(lambda: a.status().failures.counts.get("network event") == 3)
            await a.rounds(len(a.journal.records) + 2)

            assert b.me in a.daemon._network.connected()
            assert a.me in b.daemon._network.connected()
            assert a.status().worker.restarts == 0

    asyncio.run(scenario())


def test_a_network_that_fails_unforeseen_at_its_first_start_ends_the_daemon_with_words(world):
    (world.folder / "text").mkdir()

    class Odd:
        def answer(self, *_):
            pass

        async def start(self):
            raise SurpriseError("no idea")

    ports = world.ports(transport=lambda *_: Odd())
    with pytest.raises(Unforeseen, match=r"network failed \(SurpriseError: no idea\)"):
        asyncio.run(run(world.paths("home"), world.config(), ports=ports))


def test_a_failing_import_of_the_network_ends_nothing(world):
    def prepare():
        raise SurpriseError("no such library")

    async def scenario():
        async with world.daemon(ports=world.ports(prepare=prepare), may_fail=True) as running:
            await running.rounds(2)
            assert set(running.status().failures.counts) == {"import of the network"}

    asyncio.run(scenario())


def test_a_question_that_cannot_be_answered_is_said_to_whoever_asked_and_the_next_one_is_answered(world):
    async def scenario():
        async with world.daemon(kind="slow", may_fail=True) as running:
            await running.until(lambda: running.status().worker.state == "training")
            fails_first(running.daemon, "_troubles")
            with pytest.raises(PeerdError, match="SurpriseError"):
                await asyncio.to_thread(ask, running.paths)
            assert (await asyncio.to_thread(ask, running.paths)).state == "training"

    asyncio.run(scenario())
