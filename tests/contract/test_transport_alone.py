"""What only one of the two transports can show: seeded faults in memory, the death and the rumours of libp2p."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import pytest
from libp2p.peer.id import ID

from peerd.net import limits
from peerd.net.libp2p import mdns
from peerd.net.libp2p.guard import Guard
from peerd.net.transport import Connected, Disconnected, Down, Failed, Fetched, Found, Heard
from peerd.testing.network import Faults, MemoryNetwork
from peerd.wire.addresses import parse_address
from peerd.wire.keys import PeerKey
from tests.support.shelves import DictShelf

NETWORK = "a" * 64
MDNS_GROUP = "224.0.0.251"
ADA, BOB = (PeerKey(bytes([n]) * 32).peer_id for n in (1, 2))


def play_in_memory(scenario, faults: Faults, seed: int = 0):
    async def main():
        wires = MemoryNetwork(seed=seed, faults=faults, chunk_bytes=10)
        ada, bob = wires.node(ADA, DictShelf(), NETWORK), wires.node(BOB, DictShelf(), NETWORK)
        addresses = [await ada.start(), await bob.start()]
        await ada.connect(BOB, addresses[1])
        await scenario(wires, ada, bob)
        for node in (ada, bob):
            await node.stop()
        return [h async for h in bob.events()]

    return asyncio.run(main())


async def hundred_messages(wires, ada, bob):
    for n in range(100):
        await ada.publish(b"%d" % n)


def heard(events) -> list[bytes]:
    return [h.envelope.data for h in events if isinstance(h, Heard)]


def test_loss_reordering_and_duplication_follow_the_seed():
    lossy = [heard(play_in_memory(hundred_messages, Faults(loss=0.3), seed)) for seed in (1, 1, 2)]
    shuffled = heard(play_in_memory(hundred_messages, Faults(reordering=0.3)))
    doubled = heard(play_in_memory(hundred_messages, Faults(duplication=1.0)))

    assert lossy[0] == lossy[1] != lossy[2]
    assert 50 < len(lossy[0]) < 90
    assert shuffled != sorted(shuffled, key=int)
    assert len(shuffled) >= 99
    assert max(Counter(doubled).values()) == 1  # a repeated hop is recognised, as gossip does


def test_latency_passes_on_the_clock_of_the_loop():
    async def scenario(wires, ada, bob):
        await ada.publish(b"late")
        assert b"late" not in heard(bob.inbox._waiting)
        await asyncio.sleep(0.02)

    assert heard(play_in_memory(scenario, Faults(latency_seconds=0.01))) == [b"late"]


def test_a_transfer_that_is_cut_is_resumed():
    async def scenario(wires, ada, bob):
        digest = bob.shelf.put(bytes(range(100)))
        outcome = await ada.fetch(digest, 100, [BOB], 5.0)
        assert outcome == Fetched(digest, BOB, 100)
        assert ada.shelf.blobs[digest] == bytes(range(100))

    play_in_memory(scenario, Faults(cut=0.2))


def test_a_stalled_holder_costs_the_budget_and_no_more():
    async def scenario(wires, ada, bob):
        wires.stalled.add(BOB)
        outcome = await ada.fetch("c" * 64, 100, [BOB], 0.01)
        assert isinstance(outcome, Failed)
        assert outcome.reason == "timeout"

    play_in_memory(scenario, Faults())


def test_a_crash_is_down_for_one_and_a_disconnection_for_the_other():
    async def scenario(wires, ada, bob):
        wires.crash(ADA)
        assert Down("crashed") in ada.inbox._waiting

    assert [type(h) for h in play_in_memory(scenario, Faults())] == [Connected, Disconnected]


def test_the_death_of_the_network_thread_is_told_and_everything_fails_softly(play_libp2p):
    async def scenario(world):
        one, other = await world.linked(2)

        async def die() -> None:
            async def burst() -> None:
                raise RuntimeError("the library gave up")

            one.transport._node._nursery.start_soon(burst)

        await one.transport._ask(die)

        await one.until(Down("RuntimeError: the library gave up", of_a_stranger=True))
        await other.until(Disconnected(one.id))
        outcome = await one.connect(other)
        assert isinstance(outcome, Failed)
        assert outcome.reason == "unreachable"

    play_libp2p(scenario)


def test_a_fault_of_the_library_fails_one_request(play_libp2p, monkeypatch):
    async def scenario(world):
        one, other = await world.linked(2)

        async def broken(topic, message):
            raise KeyError("unforeseen")

        monkeypatch.setattr(one.transport._node._pubsub, "publish", broken)

        assert await one.transport.publish(one.announcement()) == Failed("unreachable", "KeyError: 'unforeseen'")
        assert one.transport.connected() == {other.id}

    play_libp2p(scenario)


def test_a_peer_whose_gossip_stream_the_library_gave_up_is_spoken_to_again(play_libp2p, monkeypatch):
    monkeypatch.setattr(limits, "GOSSIP_CHECK_SECONDS", 0.2)

    async def scenario(world):
        one, other = await world.linked(2)
        pubsub = one.transport._node._pubsub
        async with asyncio.timeout(60.0):
            while not pubsub.peers:  # noqa: ASYNC110  # a table of another thread wakes nobody
                await asyncio.sleep(0.05)

        async def gives_up(peer):
            raise ValueError("unforeseen")  # anything but the two errors after which it tries again

        with monkeypatch.context() as broken:
            broken.setattr(pubsub, "_handle_new_peer", gives_up)

            async def lose(peer):
                pubsub._handle_dead_peer(peer)

            await one.transport._bridge.call(lose, ID.from_string(other.id))
            await asyncio.sleep(1.0)
            assert not pubsub.peers
        async with asyncio.timeout(60.0):
            while not pubsub.peers:  # noqa: ASYNC110  # a table of another thread wakes nobody
                await asyncio.sleep(0.05)

    play_libp2p(scenario)


def test_a_daemon_that_listens_everywhere_tells_real_addresses_and_loopback(play_libp2p):
    async def scenario(world):
        one, other = await world.peer(listen=("/ip4/0.0.0.0/tcp/0",)), await world.peer()
        addresses = [parse_address(text) for text in one.addresses]

        assert addresses[-1].host == "127.0.0.1"
        assert all(address.host != "0.0.0.0" for address in addresses)
        assert isinstance(await other.connect(one), Connected)

    play_libp2p(scenario)


def test_a_rumour_on_the_local_network_is_told_and_nothing_more():
    told: list[Found] = []
    rumours = mdns._Rumours(ADA, told.append, Guard(lambda _: None))
    from libp2p.peer.id import ID

    rumours.add_addrs(ID.from_string(BOB), ["/ip4/192.0.2.2/tcp/4001", "/ip4/0.0.0.0/tcp/1", "nonsense"], 120)
    rumours.add_addrs(ID.from_string(BOB), [], 120)
    rumours.add_addrs(ID.from_string(ADA), ["/ip4/192.0.2.1/tcp/4001"], 120)

    assert told == [Found(BOB, (f"/ip4/192.0.2.2/tcp/4001/p2p/{BOB}",), "mdns")]
    assert mdns.service_of(NETWORK) == "_p2p-aaaaaaaa._udp.local."


def hears_multicast() -> bool:
    """Whether this machine takes part in multicast at all; some containers do not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.sendto(b"", (MDNS_GROUP, 5353))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not hears_multicast(), reason="this machine has no multicast, so mDNS cannot be tried here")
def test_peers_of_the_local_network_find_one_another(play_libp2p):
    async def scenario(world):
        one = await world.peer(lan=True, listen=("/ip4/0.0.0.0/tcp/0",))
        other = await world.peer(lan=True, listen=("/ip4/0.0.0.0/tcp/0",))
        await other.until(Found)

        found = next(h for h in other.events if isinstance(h, Found))
        assert (found.peer, found.how) == (one.id, "mdns")
        assert not other.saw(Connected)

    play_libp2p(scenario)


@pytest.mark.skipif(not hears_multicast(), reason="this machine has no multicast, so mDNS cannot be tried here")
def test_peers_of_another_network_on_the_local_one_are_met_though_nobody_is_told_where_they_are(play_libp2p):
    async def scenario(world):
        one = await world.peer(lan=True, listen=("/ip4/0.0.0.0/tcp/0",))
        other = await world.peer("b" * 64, lan=True, listen=("/ip4/0.0.0.0/tcp/0",))
        async with asyncio.timeout(60):
            while not all("lan" in peer.transport.met() for peer in (one, other)):  # noqa: ASYNC110  # another thread
                await asyncio.sleep(0.05)

        assert not one.saw(Found)
        assert not other.saw(Found)

    play_libp2p(scenario)


def test_of_the_services_of_a_local_network_only_those_of_other_networks_of_ours_are_met():
    met: list[str] = []
    others = mdns._Others(mdns.service_of(NETWORK), met.extend, Guard(lambda _: None))
    for name in ("_p2p-aaaaaaaa", "_p2p-bbbbbbbb", "_p2p-discovery", "_ipp", "_p2p-bbbbbbbb\x1b", "x._p2p-bbbbbbbb"):
        others.add_service(None, mdns.ALL_SERVICES, f"{name}._udp.local.")

    assert met == ["lan"]
