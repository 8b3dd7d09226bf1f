"""Transfers over real libp2p through a link that is cut, slow, late or dead: what is held is never sent again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from peerd.net.libp2p import alive
from peerd.net.transport import Connected, Disconnected, Fetched
from peerd.store.blobs import FileBlobs
from peerd.store.limits import RESUME_SECONDS
from peerd.wire.addresses import parse_address
from peerd.wire.keys import PeerKey
from tests.linkfaults import Proxy

BLOB = bytes(range(256)) * 6400  # 1.6 MB
TENTH = len(BLOB) // 10
TALK_BYTES = 16 * 1024  # a connection's handshakes, greetings and gossip subscriptions, both ways
FRAME_BYTES = (
    64 * 1024
)  # one that has not come whole is not authenticated, so it cannot be kept; one more may be under way
SWIFT = 4_000_000  # bytes a second: slow enough that no window full is under way


def behind(peer):
    """A link with faults in front of a peer."""
    address = parse_address(peer.addresses[0])
    return Proxy((address.host, address.port))


async def meet(one, other, link):
    assert isinstance(await one.transport.connect(other.id, [link.address(other.id)]), Connected)
    await one.until(Connected)


def fetching(one, other, digest):
    return asyncio.create_task(one.transport.fetch(digest, len(BLOB), [other.id], 60.0), name="fetch")


@asynccontextmanager
async def two_over_a_link(world):
    """Peers that are connected, the link between them, and the digest of what the second holds."""
    one, other = await world.peer(), await world.peer()
    digest = other.shelf.put(BLOB)
    with behind(other) as link:
        link.rate(SWIFT)
        await meet(one, other, link)
        yield one, other, link, digest


def passed(link):
    return link.up.bytes + link.down.bytes


# the others are slow tests: a cut between two tenths differs from one beside it in nothing but a number
@pytest.mark.parametrize(
    "tenths", [1, 5, 9, *(pytest.param(other, marks=pytest.mark.slow) for other in (2, 3, 4, 6, 7, 8))]
)
def test_a_transfer_cut_at_any_tenth_goes_on_and_sends_nothing_twice(play_libp2p, tenths):
    async def scenario(world):
        async with two_over_a_link(world) as (one, other, link, digest):
            before = passed(link)
            link.cut_after(tenths * TENTH)
            outcome = await one.transport.fetch(digest, len(BLOB), [other.id], 60.0)

            assert outcome == Fetched(digest, other.id, len(BLOB))
            assert link.connections == 2
            assert passed(link) - before <= len(BLOB) + TALK_BYTES + 2 * FRAME_BYTES < len(BLOB) + TENTH

    play_libp2p(scenario)


def test_a_transfer_cut_again_and_again_goes_on_and_sends_nothing_twice(play_libp2p):
    async def scenario(world):
        async with two_over_a_link(world) as (one, other, link, digest):
            before, cuts, got = passed(link), 0, None
            while not isinstance(got, Fetched):
                link.cut_after(2 * TENTH)
                fetch = fetching(one, other, digest)
                while not fetch.done():
                    await asyncio.sleep(0.005)
                    if link.connections > cuts + 1:
                        cuts += 1
                        link.cut_after(TALK_BYTES + 2 * TENTH)
                got = fetch.result()

            assert cuts >= 3
            assert one.shelf.blobs[digest] == BLOB
            assert passed(link) - before <= len(BLOB) + (cuts + 1) * (TALK_BYTES + 2 * FRAME_BYTES)

    play_libp2p(scenario)


def test_a_receiver_restarted_at_every_fifth_of_a_slow_transfer_goes_on_from_its_disk(play_libp2p, tmp_path):
    async def scenario(world):
        other = await world.peer()
        digest = other.shelf.put(BLOB)
        with behind(other) as link:
            link.rate(SWIFT / 4)
            for tenth in range(0, 10, 2):
                shelf = FileBlobs(tmp_path)
                shelf.sweep(keep=(), resumable_seconds=RESUME_SECONDS)  # as every start does
                assert shelf.partial_size(digest) >= tenth * TENTH
                one = await world.peer(shelf=shelf, key=PeerKey(bytes([99]) * 32))
                await meet(one, other, link)
                fetch = fetching(one, other, digest)
                for _ in range(10_000):
                    if fetch.done() or shelf.partial_size(digest) >= (tenth + 2) * TENTH:
                        break
                    await asyncio.sleep(0.005)
                await one.transport.stop()
                await fetch

            assert shelf.read(digest, 0, len(BLOB)) == BLOB
            assert passed(link) <= len(BLOB) + 5 * (TALK_BYTES + 2 * FRAME_BYTES)

    play_libp2p(scenario)


def test_what_a_liar_gave_before_it_left_is_noticed_at_the_end_and_fetched_anew_from_another(play_libp2p):
    async def scenario(world):
        one, liar, honest = await world.peer(), await world.peer(), await world.peer()
        digest = honest.shelf.put(BLOB)
        liar.shelf.blobs[digest] = bytes(len(BLOB))
        with behind(liar) as link:
            link.rate(SWIFT)
            await meet(one, liar, link)
            await one.connect(honest)
            for _ in range(2):  # it lies again and again, and is asked first again and again
                one.shelf.blobs.clear()
                link.cut_after(9 * TENTH)
                outcome = await one.transport.fetch(digest, len(BLOB), [liar.id, honest.id], 60.0)

                assert isinstance(outcome, Fetched)
                assert outcome.source == honest.id
                assert outcome.bytes_in <= 2 * len(BLOB) + 2 * FRAME_BYTES
                assert one.shelf.blobs[digest] == BLOB

    play_libp2p(scenario)


def test_a_peer_that_vanishes_without_a_word_is_noticed_by_both_and_found_again(play_libp2p, monkeypatch):
    monkeypatch.setattr(alive, "PING_SECONDS", 0.25)

    async def scenario(world):
        one, other = await world.peer(), await world.peer()
        with behind(other) as link:
            await meet(one, other, link)
            await asyncio.sleep(1.0)  # as long as it takes to notice, and longer
            assert not one.saw(Disconnected)
            link.vanish()

            await one.until(Disconnected(other.id))
            await other.until(Disconnected(one.id))
            await meet(one, other, link)

    play_libp2p(scenario)


def test_a_pause_breaks_no_transfer_that_it_does_not_outlast(play_libp2p):
    async def scenario(world):
        async with two_over_a_link(world) as (one, other, link, digest):
            fetch = fetching(one, other, digest)
            await asyncio.sleep(0.1)
            link.pause(1.0)

            assert await fetch == Fetched(digest, other.id, len(BLOB))
            assert link.connections == 1

    play_libp2p(scenario)


def test_peers_far_apart_connect_and_fetch_over_a_link_that_wavers(play_libp2p):
    async def scenario(world):
        one, other = await world.peer(), await world.peer()
        blob = BLOB[:TENTH]
        digest = other.shelf.put(blob)
        with behind(other) as link:
            link.delay(0.1, 0.05)
            await meet(one, other, link)
            outcome = await one.transport.fetch(digest, len(blob), [other.id], 60.0)

            assert outcome == Fetched(digest, other.id, len(blob))

    play_libp2p(scenario)
