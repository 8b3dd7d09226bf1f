"""Rounds of whole daemons over the in-memory network."""

import asyncio
import json
import os
import signal

import pytest

from peerd.errors import StoreError
from peerd.store.blobs import FileBlobs
from peerd.store.sqlite import SqliteStore
from peerd.worker import supervisor


def address_of(running):
    return f"/memory/{running.me}/p2p/{running.me}"


def introduce(one, other):
    """As a discovery method would."""
    from peerd.net.transport import Found

    one.daemon._found(Found(other.me, (address_of(other),), "test"))


def test_a_daemon_alone_trains_its_rounds_and_rests(world):
    async def scenario():
        async with world.daemon() as alone:
            records = await alone.rounds(3)
            await alone.until(lambda: alone.status().state == "resting")
            status = alone.status()

            assert [record.round for record in records] == [1, 2, 3]
            assert [record.row for record in records] == [{alone.me: 1.0}] * 3
            assert records[-1].guard_personal == pytest.approx(10 - 6 * 0.25)
            assert status.perplexity.personal < status.perplexity.base
            assert status.health.ok
            assert status.addresses
            assert status.notices == ["This fake model is adapted in part"]

    asyncio.run(scenario())


def test_two_peers_find_fetch_trust_and_merge(world):
    async def scenario():
        async with world.daemon("a", rounds=0) as a, world.daemon("b", rounds=0) as b:
            await a.until(lambda: a.status().addresses and a.status().state != "starting")
            await b.until(lambda: b.status().addresses and b.status().state != "starting")
            introduce(a, b)
            await a.until(lambda: any(b.me in record.row for record in a.journal.records))
            await b.until(lambda: any(a.me in record.row for record in b.journal.records))
            (neighbour,) = a.status().neighbours

            assert (neighbour.peer_id, neighbour.connected) == (b.me, True)
            assert any(record.row == {a.me: 0.5, b.me: 0.5} for record in a.journal.records)
            assert neighbour.bytes_in > 0
            assert neighbour.age_seconds is not None
            assert a.status().traffic.bytes_out > 0

    asyncio.run(scenario())


def test_a_peer_that_sends_nonsense_is_refused_counted_and_harms_nobody(world):
    async def scenario():
        async with world.daemon("a", rounds=0) as a, world.daemon("b", "liar", rounds=0) as liar:
            await liar.until(lambda: liar.status().addresses and liar.status().state != "starting")
            await a.until(lambda: a.status().state != "starting")
            introduce(a, liar)
            await a.until(lambda: a.status().refused.get("decode"))

            assert all(record.row == {a.me: 1.0} for record in a.journal.records)
            return liar.me, a.paths

    liar, paths = asyncio.run(scenario())

    store = SqliteStore(paths.database, epoch=1)
    assert store.refusals()[liar]["decode"] >= 1
    store.close()


def test_a_restart_goes_on_with_the_same_numbers(world):
    async def scenario():
        async with world.daemon(rounds=2) as first:
            before = await first.rounds(2)
        async with world.daemon(rounds=4) as second:
            after = await second.rounds(4)

            assert after[:2] == before
            assert [record.guard_personal for record in after] == pytest.approx([9.5, 9.0, 8.5, 8.0])
            assert second.me == first.me

    asyncio.run(scenario())


def test_no_sequence_number_is_used_twice_over_restarts(world):
    orders = []

    async def scenario():
        for rounds in (1, 2, 3):
            async with world.daemon(rounds=rounds) as running:
                await running.rounds(rounds)
                orders.append(running.shell.node.own.order)

    asyncio.run(scenario())

    assert orders == sorted(set(orders))


def test_the_worker_killed_in_training_is_replaced_and_the_round_repeated(world):
    async def scenario():
        async with world.daemon(kind="dies once") as running:
            records = await running.rounds(3)
            status = running.status()

            assert status.worker.restarts == 1
            assert "SIGKILL" in status.worker.last_error
            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0, 8.5])

    asyncio.run(scenario())


def test_what_dead_workers_wrote_is_cleared_while_the_daemon_runs(world, monkeypatch):
    monkeypatch.setattr(supervisor.Backoff, "after", lambda self, deaths: 0.01)

    async def scenario():
        async with world.daemon(kind="dies often", rounds=0) as running:
            await running.rounds(1)

            assert running.status().worker.restarts == 3
            assert all("nobody" not in file.read_text() for file in running.paths.scratch.iterdir())

    asyncio.run(scenario())


def test_a_file_that_waits_for_the_disk_outlives_its_worker(world, monkeypatch):
    """The disk refuses, the worker dies, the next one starts: the file of the first is still to be had."""
    full = ["until the next worker has started"]
    adopt = FileBlobs.adopt

    def refuses(blobs, path):
        if full:
            raise StoreError("the disk is full")
        return adopt(blobs, path)

    monkeypatch.setattr(FileBlobs, "adopt", refuses)
    monkeypatch.setattr(supervisor.Backoff, "after", lambda self, deaths: 0.05)

    async def scenario():
        async with world.daemon(rounds=2) as running:
            await running.until(lambda: running.journal.incoming)
            os.kill(running.worker._life.pid, signal.SIGKILL)
            await running.until(lambda: running.status().worker.restarts and running.worker._ready)
            full.clear()
            records = await running.rounds(2)
            await running.until(lambda: not running.journal.incoming)  # nobody waits for ever for what is gone

            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0])

    asyncio.run(scenario())


def test_a_worker_that_is_down_is_no_healthy_state(world):
    async def scenario():
        async with world.daemon(kind="slow") as running:
            await running.until(lambda: running.status().worker.state == "training")
            os.kill(running.worker._life.pid, signal.SIGKILL)
            await running.until(lambda: running.status().worker.state == "restarting")
            health = running.status().health

            assert not health.ok
            assert "SIGKILL" in health.reasons[0]
            assert "peerd paths" in health.reasons[0]

    asyncio.run(scenario())


def test_what_cannot_be_published_or_merged_does_not_end_the_rounds(world):
    async def scenario():
        async with world.daemon("a", "cannot encode", rounds=2) as a:
            await a.rounds(2)
        async with world.daemon("b", "cannot merge", rounds=2) as b:
            await b.until(lambda: b.status().state == "resting")

            assert list(b.journal.records) == []

    asyncio.run(scenario())


def test_a_transport_that_dies_comes_back(world):
    async def scenario():
        async with world.daemon("a", rounds=0) as a:
            await a.until(lambda: a.status().state != "starting")
            world.wires.crash(a.me)
            await a.until(lambda: a.daemon._network.trouble)
            assert not a.status().health.ok
            await a.until(lambda: not a.daemon._network.trouble)

            assert a.me in world.wires.nodes
            assert a.status().health.ok

    asyncio.run(scenario())


def test_blobs_that_nobody_needs_are_deleted(world):
    async def scenario():
        async with world.daemon(rounds=6) as running:
            await running.rounds(6)
            await running.until(lambda: running.status().state == "resting")
            return running.paths, running.journal._generations.kept.checkpoints, running.shell.node

    paths, (checkpoint, before), node = asyncio.run(scenario())

    held = {file.name for file in paths.blobs.iterdir()}
    kept = {checkpoint.blob, checkpoint.best_blob, before.blob, before.best_blob}
    assert held == {"generations", *kept, node.own.blob, *node.own_before}
    assert (checkpoint.round, before.round, len(kept)) == (7, 6, 4)
    assert list(paths.scratch.iterdir()) == []


def test_a_checkpoint_damaged_on_disk_is_set_aside_and_the_one_before_goes_on_with_the_same_numbers(world, caplog):
    async def scenario():
        async with world.daemon(rounds=2) as first:
            await first.rounds(2)
            kept = first.journal.checkpoint
        blob = first.paths.blobs / kept.blob
        blob.write_bytes(json.dumps({"value": 99.0, "steps": 4}).encode())
        async with world.daemon(rounds=3) as second:
            records = await second.rounds(3)

            assert [record.round for record in records] == [1, 2, 3]
            assert [record.guard_personal for record in records] == pytest.approx([9.5, 9.0, 8.5])
            assert (first.paths.blobs / kept.blob).with_suffix(".damaged").exists()

    asyncio.run(scenario())

    assert "damaged on disk" in caplog.text
    assert "it was the training state of round 3" in caplog.text
    assert "training goes on from the generation before, of round 2" in caplog.text


def test_a_changed_text_is_read_again(world, caplog, monkeypatch):
    caplog.set_level("INFO", "peerd")
    monkeypatch.setattr("peerd.daemon.text_watch.QUIET_SECONDS", 0.01)  # a sign of the system follows, or the look does
    monkeypatch.setattr("peerd.daemon.text_watch.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("peerd.daemon.text_watch.UNTOLD_SECONDS", 0.02)

    async def scenario():
        async with world.daemon(rounds=1) as running:
            await running.rounds(1)
            await running.until(lambda: running.status().state == "resting")
            (world.folder / "text" / "new.txt").write_text("more")
            await running.until(lambda: "the text has changed" in caplog.text)

    asyncio.run(scenario())
