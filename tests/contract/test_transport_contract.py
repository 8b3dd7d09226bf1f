"""What every transport does. Each sentence holds for the in-memory network and for libp2p on loopback."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from peerd.net.transport import RELAYED, Connected, Disconnected, Failed, Fetched, Heard
from peerd.wire.envelope import opened
from peerd.wire.keys import PeerKey
from peerd.wire.traits import Traits

OTHER_NETWORK = "b" * 64
BLOB = bytes(range(256)) * 4000  # about a megabyte


def test_a_started_node_tells_addresses_that_name_it(play):
    async def scenario(world):
        peer = await world.peer()

        assert peer.addresses
        assert all(address.endswith(f"/p2p/{peer.id}") for address in peer.addresses)
        assert peer.transport.me == peer.id
        assert peer.transport.connected() == frozenset()

    play(scenario)


def test_a_connection_is_seen_at_both_ends(play):
    async def scenario(world):
        one, other = await world.peer(), await world.peer()

        outcome = await one.connect(other)

        assert isinstance(outcome, Connected)
        assert (outcome.peer, outcome.address) == (other.id, other.addresses[0])
        await one.until(Connected)
        await other.until(Connected)
        assert one.transport.connected() == {other.id}
        assert other.transport.connected() == {one.id}

    play(scenario)


def test_connecting_twice_is_one_connection(play):
    async def scenario(world):
        one, other = await world.linked(2)

        assert isinstance(await one.connect(other), Connected)
        assert isinstance(await other.connect(one), Connected)
        assert [type(h) for h in one.events] == [Connected]

    play(scenario)


def test_where_nobody_listens_is_unreachable(play):
    async def scenario(world):
        one, other = await world.peer(), await world.peer()
        await other.transport.stop()

        outcome = await one.connect(other)
        nowhere = await one.transport.connect(other.id, ["/ip4/10.0.0.1/udp/1", "nonsense", ""])

        assert isinstance(outcome, Failed)
        assert isinstance(nowhere, Failed)
        assert outcome.reason in {"unreachable", "connection-refused"}
        assert nowhere.reason == "unreachable"

    play(scenario)


def test_what_lies_behind_a_relay_is_passed_over_for_that_reason_and_counted(play):
    async def scenario(world):
        one, other, relay = await world.peer(), await world.peer(), PeerKey(b"\x63" * 32).peer_id
        relayed = f"/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{other.id}"

        outcome = await one.transport.connect(other.id, [relayed])

        assert outcome == RELAYED
        assert isinstance(await one.transport.connect(other.id, [relayed, *other.addresses]), Connected)
        assert one.transport.counts()["addresses-relayed"] == 2

    play(scenario)


def test_every_address_is_tried(play):
    async def scenario(world):
        one, other = await world.peer(), await world.peer()
        dead = (f"/ip4/127.0.0.1/tcp/1/p2p/{other.id}", f"/ip4/127.0.0.1/tcp/2/p2p/{other.id}")

        assert isinstance(await one.transport.connect(other.id, [*dead, *other.addresses]), Connected)

    play(scenario)


def test_a_peer_of_another_network_is_refused_by_both(play):
    async def scenario(world):
        one, stranger = await world.peer(), await world.peer(OTHER_NETWORK)

        outcomes = [await one.connect(stranger), await stranger.connect(one)]

        assert [type(o) for o in outcomes] == [Failed, Failed]
        assert [o.reason for o in outcomes] == ["other-network", "other-network"], [o.detail for o in outcomes]
        assert one.transport.connected() == stranger.transport.connected() == frozenset()
        assert not one.saw(Connected)
        assert not stranger.saw(Connected)

    play(scenario)


MINE = Traits(group="writers", model="a" * 64, adapter="b" * 64)


@pytest.mark.parametrize(
    ("theirs", "kinds"),
    [
        (replace(MINE, group="painters"), ("group",)),
        (replace(MINE, model="c" * 64, adapter="d" * 64), ("model",)),
        (replace(MINE, adapter="d" * 64), ("adapter",)),
        (replace(MINE, group="painters", version=9), ("version", "group")),
        (MINE, ("network",)),
    ],
)
def test_both_of_two_that_cannot_be_joined_know_in_what_they_differ(play, theirs, kinds):
    async def scenario(world):
        one, other = await world.peer(traits=MINE), await world.peer(OTHER_NETWORK, traits=theirs)

        outcome = await one.connect(other)

        assert (outcome.reason, outcome.differs) == ("other-network", kinds)
        for peer in (one, other):
            async with asyncio.timeout(60):
                while set(peer.transport.met()) != set(kinds):  # noqa: ASYNC110  # counted in the network's thread
                    await asyncio.sleep(0.01)
            assert {f"met-{kind}" for kind in kinds} <= set(peer.transport.counts())
            assert all(met.times >= 1 and met.seconds < 60 for met in peer.transport.met().values())

    play(scenario)


def test_nobody_connects_to_itself(play):
    async def scenario(world):
        peer = await world.peer()

        outcome = await peer.connect(peer)

        assert isinstance(outcome, Failed)
        assert outcome.reason == "refused"

    play(scenario)


def test_disconnecting_is_seen_at_both_ends(play):
    async def scenario(world):
        one, other = await world.linked(2)

        await one.transport.disconnect(other.id)

        await one.until(Disconnected(other.id))
        await other.until(Disconnected(one.id))
        assert one.transport.connected() == other.transport.connected() == frozenset()

    play(scenario)


def test_a_peer_that_stops_is_gone_for_others_and_can_come_back(play):
    async def scenario(world):
        one, other = await world.linked(2)

        await other.transport.stop()
        await one.until(Disconnected(other.id))
        again = await world.peer()

        assert isinstance(await again.connect(one), Connected)
        await one.until(Connected, count=2)

    play(scenario)


def test_after_stopping_everything_fails_and_nothing_raises(play):
    async def scenario(world):
        one, other = await world.linked(2)
        blob = other.shelf.put(b"blob")
        await one.transport.stop()

        await one.transport.stop()
        connected = await one.connect(other)
        published = await one.transport.publish(one.announcement())
        fetched = await one.transport.fetch(blob, 4, [other.id], 5.0)

        assert [type(outcome) for outcome in (connected, published, fetched)] == [Failed] * 3
        assert one.transport.connected() == frozenset()

    play(scenario)


def test_an_announcement_travels_from_peer_to_peer(play):
    async def scenario(world):
        one, two, three = await world.linked(3)
        message = one.announcement()

        assert await one.transport.publish(message) is None

        await two.until(Heard(opened(message), one.id))
        await three.until(Heard(opened(message), two.id))
        assert not one.saw(Heard)

    play(scenario)


def test_the_same_announcement_is_heard_again_when_it_is_repeated(play):
    async def scenario(world):
        one, two = await world.linked(2)
        message = one.announcement()
        await one.transport.publish(message)
        await two.until(Heard)

        await one.transport.publish(message)

        await two.until(Heard(opened(message), one.id), count=2)

    play(scenario)


def test_what_is_no_announcement_ends_at_the_first_neighbour(play):
    async def scenario(world):
        one, two, three = await world.linked(3)
        forged = bytearray(one.announcement())
        forged[-1] ^= 1

        await one.transport.publish(b"garbage")
        await one.transport.publish(bytes(forged))
        await one.transport.publish(one.announcement())

        await two.until(Heard(opened(b"garbage"), one.id), Heard(opened(bytes(forged)), one.id))
        await three.until(Heard)
        assert [h.envelope.data for h in three.events if isinstance(h, Heard)] == [one.announcement()]

    play(scenario)


def test_what_is_too_long_for_gossip_is_not_published(play):
    async def scenario(world):
        one = await world.peer()

        outcome = await one.transport.publish(bytes(4097))

        assert isinstance(outcome, Failed)
        assert outcome.reason == "oversize"

    play(scenario)


def test_publishing_to_nobody_is_no_failure(play):
    async def scenario(world):
        one = await world.peer()

        assert await one.transport.publish(one.announcement()) is None

    play(scenario)


def test_a_blob_is_fetched_whole_and_both_count_its_bytes(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)

        outcome = await one.transport.fetch(digest, len(BLOB), [other.id], 20.0)

        assert outcome == Fetched(digest, other.id, len(BLOB))
        assert one.shelf.blobs[digest] == BLOB
        assert one.transport.traffic()[other.id].bytes_in >= len(BLOB)
        assert other.transport.traffic()[one.id].bytes_out >= len(BLOB)

    play(scenario)


def test_what_went_out_is_told_once_by_peer_and_blob_and_adds_up_to_the_traffic(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)
        found = {}

        def ask():
            for key, count in other.transport.sent().items():
                found[key] = found.get(key, 0) + count

        ask()
        assert isinstance(await one.transport.fetch(digest, len(BLOB), [other.id], 20.0), Fetched)
        await other.transport.publish(other.announcement())
        await one.until(Heard)
        async with asyncio.timeout(20.0):
            while found.get((one.id, digest), 0) < len(BLOB) or not found.get((one.id, None)):
                await asyncio.sleep(0.01)  # what has come may not have been counted yet where it left
                ask()
            while sum(found.values()) != other.transport.traffic()[one.id].bytes_out:  # gossip goes on meanwhile
                await asyncio.sleep(0.01)
                ask()

        assert found[one.id, digest] == len(BLOB)

    play(scenario)


def test_a_blob_that_is_here_is_not_fetched(play):
    async def scenario(world):
        one = await world.peer()
        digest = one.shelf.put(BLOB)

        outcome = await one.transport.fetch(digest, len(BLOB), [], 5.0)

        assert outcome == Fetched(digest, one.id, 0)

    play(scenario)


def test_the_next_holder_is_asked_where_the_first_has_nothing(play):
    async def scenario(world):
        one, two, three = await world.linked(3)
        await one.connect(three)
        digest = three.shelf.put(BLOB)

        outcome = await one.transport.fetch(digest, len(BLOB), [two.id, three.id], 20.0)

        assert outcome == Fetched(digest, three.id, len(BLOB))

    play(scenario)


def test_what_nobody_has_is_absent(play):
    async def scenario(world):
        one, other = await world.linked(2)

        outcome = await one.transport.fetch("c" * 64, 10, [other.id], 5.0)
        nobody = await one.transport.fetch("c" * 64, 10, [], 5.0)

        assert (outcome.reason, nobody.reason) == ("absent", "absent")

    play(scenario)


def test_an_interrupted_transfer_goes_on_where_it_stopped(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)
        one.shelf.partials[digest] = BLOB[:700_000]

        outcome = await one.transport.fetch(digest, len(BLOB), [other.id], 20.0)

        assert outcome == Fetched(digest, other.id, len(BLOB) - 700_000)
        assert one.shelf.blobs[digest] == BLOB

    play(scenario)


def test_a_partial_that_a_liar_left_is_fetched_anew(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)
        one.shelf.partials[digest] = bytes(700_000)

        outcome = await one.transport.fetch(digest, len(BLOB), [other.id], 20.0)

        assert isinstance(outcome, Fetched)
        assert outcome.bytes_in == 2 * len(BLOB) - 700_000
        assert one.shelf.blobs[digest] == BLOB

    play(scenario)


def test_bytes_that_do_not_hash_to_the_digest_are_corrupt_and_dropped(play):
    async def scenario(world):
        one, liar = await world.linked(2)
        digest = liar.shelf.put(BLOB)
        liar.shelf.blobs[digest] = bytes(len(BLOB))

        outcome = await one.transport.fetch(digest, len(BLOB), [liar.id], 20.0)

        assert isinstance(outcome, Failed)
        assert outcome.reason == "corrupt"
        assert outcome.wrong == ((liar.id, "corrupt"),)
        assert outcome.bytes_in == len(BLOB)
        assert one.shelf.size(digest) is None
        assert one.shelf.partial_size(digest) == 0

    play(scenario)


def test_another_size_than_announced_is_refused_before_a_byte_is_read(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)

        outcome = await one.transport.fetch(digest, len(BLOB) - 1, [other.id], 5.0)

        assert isinstance(outcome, Failed)
        assert (outcome.reason, outcome.bytes_in) == ("oversize", 0)
        assert outcome.wrong == ((other.id, "oversize"),)

    play(scenario)


def test_a_holder_that_is_gone_is_passed_over(play):
    async def scenario(world):
        one, two, three = await world.linked(3)
        await one.connect(three)
        digest = three.shelf.put(BLOB)
        await two.transport.stop()
        await one.until(Disconnected(two.id))

        outcome = await one.transport.fetch(digest, len(BLOB), [two.id, three.id], 20.0)

        assert outcome == Fetched(digest, three.id, len(BLOB))

    play(scenario)


def test_two_fetches_of_one_blob_bring_its_bytes_once(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digest = other.shelf.put(BLOB)

        async with asyncio.TaskGroup() as tasks:
            fetches = [
                tasks.create_task(one.transport.fetch(digest, len(BLOB), [other.id], 20.0), name=str(n))
                for n in range(2)
            ]

        assert sorted(task.result().bytes_in for task in fetches) == [0, len(BLOB)]

    play(scenario)


def test_several_blobs_of_one_peer_are_fetched_one_after_another(play):
    async def scenario(world):
        one, other = await world.linked(2)
        digests = [other.shelf.put(bytes([n]) * 100_000) for n in range(5)]

        async with asyncio.TaskGroup() as tasks:
            fetches = [
                tasks.create_task(one.transport.fetch(digest, 100_000, [other.id], 20.0), name=digest)
                for digest in digests
            ]

        assert [type(task.result()) for task in fetches] == [Fetched] * 5

    play(scenario)
