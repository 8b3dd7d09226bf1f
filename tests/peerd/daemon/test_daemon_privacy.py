"""What a whole daemon publishes with and without noise, what it writes down about it, and what it never serves."""

import asyncio
import hashlib
import json

import pytest

from peerd.control.client import Client
from peerd.net.transport import Failed, Found
from peerd.store.blobs import FileBlobs
from peerd.store.sqlite import SqliteStore
from peerd.testing.store import MemoryBlobs
from peerd.wire.keys import PeerKey

PRIVATE = {"private_clip": 0.05, "private_noise": 4.0}


async def acquainted(a, b):
    """Two daemons that know each other."""
    for running in (a, b):
        await running.until(lambda running=running: running.status().addresses and running.status().state != "starting")
    a.daemon._found(Found(b.me, (f"/memory/{b.me}/p2p/{b.me}",), "test"))


def test_every_publication_is_counted_over_restarts_and_shown(world):
    async def scenario():
        async with world.daemon(rounds=2, **PRIVATE) as first:
            await first.rounds(2)
        async with world.daemon(rounds=3, **PRIVATE) as second:
            await second.rounds(3)
            now = second.status()
            return now, await asyncio.to_thread(ask, second.paths)

    status, sent = asyncio.run(scenario())

    assert (status.privacy.mechanism, status.privacy.publications, status.privacy.epsilon) == ("gaussian", 3, 3.0)
    assert "weak promise" in status.privacy.sentence
    assert [(update.round, update.epsilon) for update in sent.updates] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert sent.total.publications == 3


def ask(paths):
    with Client(socket_path=paths.socket) as client:
        return client.sent()


def test_beyond_the_budget_it_publishes_no_more_and_goes_on_training_and_merging(world):
    async def scenario():
        async with (
            world.daemon("a", rounds=0, collect_seconds=1.0, private_budget=2.0, **PRIVATE) as a,
            world.daemon("b", rounds=0, collect_seconds=1.0) as b,
        ):
            await acquainted(a, b)
            await a.until(lambda: any(b.me in record.row and record.round > 3 for record in a.journal.records))
            before = len(b.journal.records)
            await b.rounds(before + 2)
            return a.status(), a.journal, b

    status, journal, _ = asyncio.run(scenario())

    assert status.privacy.publications == 2
    assert status.privacy.epsilon == 2.0
    assert "not publishing: one more update would bring epsilon to 3" in status.sentence
    assert [made.round for made in journal.publications] == [1, 2]


def test_updates_published_before_noise_was_asked_for_leave_no_bound(world):
    async def scenario():
        async with world.daemon(rounds=1) as bare:
            await bare.rounds(1)
        async with world.daemon(rounds=2, **PRIVATE) as private:
            await private.rounds(2)
            return private.status().privacy

    privacy = asyncio.run(scenario())

    assert (privacy.bare, privacy.publications, privacy.epsilon) == (1, 1, None)
    assert "1 update went out without noise" in privacy.sentence


@pytest.mark.parametrize("damage", ["deleted", "overwritten", "older version"])
def test_a_count_that_was_lost_is_said_and_claims_no_bound(world, damage):
    async def scenario():
        async with world.daemon(rounds=1, **PRIVATE) as first:
            await first.rounds(1)
        spoil(first.paths.database, damage)
        async with world.daemon(rounds=2, **PRIVATE) as second:
            await second.until(lambda: second.status().privacy.publications)
            return second.status().privacy

    privacy = asyncio.run(scenario())

    assert privacy.epsilon is None
    assert "Nobody counted the updates of this home from before" in privacy.sentence


def spoil(database, damage):
    if damage == "deleted":
        for file in database.parent.glob(database.name + "*"):
            file.unlink()
    elif damage == "overwritten":
        database.write_bytes(b"x" * 4096)
    else:
        store = SqliteStore(database, epoch=1)
        store._connection.execute("DELETE FROM document WHERE name = 'spending'")
        store.close()


def test_a_new_home_has_lost_nothing(world):
    async def scenario():
        paths = world.paths("fresh")
        PeerKey.load_or_create(paths.identity)  # as the demo does
        async with world.daemon("fresh", rounds=1, **PRIVATE) as running:
            await running.rounds(1)
            return running.status().privacy

    assert asyncio.run(scenario()).epsilon == 1.0


def test_the_book_adds_up_to_what_the_network_counted_and_survives(world):
    async def scenario():
        async with world.daemon("a", rounds=0) as a, world.daemon("b", rounds=0, steps_per_round=7) as b:
            await acquainted(a, b)
            await b.until(lambda: sum(a.me in record.row for record in b.journal.records) >= 2)
            names = {b.me: "b"}
        traffic = a.daemon._network._before[b.me]
        return a, names, traffic

    a, names, traffic = asyncio.run(scenario())

    store = SqliteStore(a.paths.database, epoch=1)
    rows, publications = store.sent(), store.publications()
    store.close()
    assert {row.peer for row in rows} == set(names)
    assert sum(row.total for row in rows) == traffic.bytes_out
    sizes = {made.round: made.size for made in publications}
    fetched = [row for row in rows if row.own]
    assert fetched
    assert all(row.own == sizes[row.round] for row in fetched)
    assert all(row.passed_on == 0 for row in rows)


def test_a_checkpoint_is_never_served_even_to_who_knows_its_digest(world):
    async def scenario():
        async with world.daemon("a", rounds=2) as a:
            await a.until(lambda: a.status().state == "resting")
            shelf = MemoryBlobs()
            stranger = world.wires.node(PeerKey(b"s" * 32).peer_id, shelf, a.daemon._performer.network_digest)
            await stranger.start()
            await stranger.connect(a.me, [f"/memory/{a.me}/p2p/{a.me}"])
            found = {}
            for digest in held(a.paths):
                size = FileBlobs(a.paths.blobs).size(digest)
                outcome = await stranger.fetch(digest, size, [a.me], 5.0)
                found[digest] = outcome.reason if isinstance(outcome, Failed) else "served"
            return found, a.journal, {a.shell.node.own.blob, *a.shell.node.own_before}

    found, journal, announced = asyncio.run(scenario())

    assert {digest for digest, outcome in found.items() if outcome == "served"} == announced
    assert {found[digest] for digest in journal.checkpoint_blobs()} == {"absent"}


def test_announcing_the_digest_of_a_checkpoint_does_not_open_it(world):
    from msgspec.structs import replace

    from peerd.daemon.ledger import is_public

    async def scenario():
        async with world.daemon("a", rounds=2) as a, world.daemon("b", rounds=0) as b:
            await acquainted(a, b)
            await a.until(lambda: any(known.latest is not None for known in a.shell.node.neighbours.values()))
            await a.rounds(1)
            (known,) = a.shell.node.neighbours.values()
            secret = a.journal.checkpoint.blob
            assert not is_public(secret, a.shell.node, a.journal)
            guessed = replace(a.shell.node, own=replace(known.latest, blob=secret))
            return is_public(secret, guessed, a.journal)

    assert asyncio.run(scenario()) is False


def held(paths):
    """Digests of everything on the shelf."""
    files = [file for file in paths.blobs.rglob("*") if file.is_file()]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_an_update_that_was_noised_is_not_what_was_learnt(world):
    async def scenario():
        async with world.daemon(rounds=1, **PRIVATE) as running:
            await running.rounds(1)
            await running.until(lambda: running.status().state == "resting")
            blob = running.daemon._blobs.path(running.shell.node.own.blob).read_text()
            return float(json.loads(blob)), running.journal.records[-1]

    told, record = asyncio.run(scenario())

    assert told != pytest.approx(10 - record.guard_own)
