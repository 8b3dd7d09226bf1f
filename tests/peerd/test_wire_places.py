"""Whose address it is, of peers behind a relay: neither one crowd nor as many places as there are ids."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from libp2p.connection_types import ConnectionType

from peerd.core.knocks import Knocks, place_at, target_of
from peerd.core.limits import PLACE_KNOCK_BURST, TARGET_KNOCK_BURST
from peerd.net import limits
from peerd.net.libp2p.frames import place_of as place_of_stream
from peerd.wire.places import CIRCUIT_PLACES, crowd_of, is_relayed, place_behind, place_of

RELAY, IDS = "192.0.2.1", [f"sybil-{number}" for number in range(400)]


def behind(peer: str, relay: str = "RELAY", port: int = 4001) -> str:
    return f"/ip4/{RELAY}/tcp/{port}/p2p/{relay}/p2p-circuit/p2p/{peer}"


def test_peers_behind_a_relay_are_spread_evenly_over_a_few_places_that_stay() -> None:
    places = Counter(place_behind(RELAY, peer) for peer in IDS)

    assert len(places) == CIRCUIT_PLACES
    assert min(places.values()) > len(IDS) / CIRCUIT_PLACES / 2
    assert place_behind(RELAY, "somebody") == place_behind(RELAY, "somebody")
    assert {crowd_of(place) for place in places} == {RELAY} == {crowd_of(RELAY)}
    assert all(place_of(place) == place for place in places)
    assert place_behind("2001:db8::1", "a") == place_behind("2001:db8::2", "a")


@pytest.mark.parametrize("text", [behind("PEER"), "/ip4/192.0.2.1/tcp/1/p2p/RELAY/p2p-circuit"])
def test_a_relayed_address_is_told_from_others(text: str) -> None:
    assert is_relayed(text)
    assert not is_relayed("/ip4/192.0.2.1/tcp/1/p2p/RELAY")
    assert not is_relayed("/dns4/x-p2p-circuit.example/tcp/1")


def knocked(*addresses: str) -> int:
    """How many of them may be knocked at, where nobody answers."""
    knocks, allowed = Knocks(), 0
    for address in addresses:
        if (after := knocks.after(0.0, address, is_friend=True)) is not None:
            knocks, allowed = after, allowed + 1
    return allowed


def test_who_does_not_answer_behind_a_relay_hides_few_of_the_others_behind_it() -> None:
    silent = [behind("silent")] * 100
    others = [behind(peer) for peer in IDS if target_of(behind(peer)) != target_of(behind("silent"))]

    assert knocked(*silent) == TARGET_KNOCK_BURST
    assert knocked(*silent, *others[:20]) > TARGET_KNOCK_BURST


def test_made_up_relays_ports_and_peers_are_no_more_knocks_at_one_place() -> None:
    one_port = [behind(peer, relay=f"relay-{peer}") for peer in IDS]
    many_ports = [behind(peer, relay=f"relay-{peer}", port=1 + number) for number, peer in enumerate(IDS)]

    assert knocked(*one_port) <= CIRCUIT_PLACES * TARGET_KNOCK_BURST
    assert knocked(*many_ports) <= PLACE_KNOCK_BURST
    assert {place_at(address) for address in many_ports} == {RELAY}
    assert target_of(behind("a")) != target_of(f"/ip4/{RELAY}/tcp/4001/p2p/a")  # one does not prove the other


def test_a_relay_with_all_behind_it_has_no_more_doors_than_one_address() -> None:
    doors: limits.Doors[str] = limits.Doors()
    inside = 0
    for peer in IDS:
        welcome, _ = doors.knock(peer, place_behind(RELAY, peer))
        inside += welcome
        doors.enter(peer)

    assert inside == limits.MAX_CONNECTIONS_PER_ADDRESS
    assert doors.knock("neighbour", "198.51.100.7") == (True, None)
    for peer in IDS:
        doors.leave(peer)
    assert doors.knock("again", place_behind(RELAY, "again")) == (True, None)


def test_a_stream_through_a_relay_comes_from_a_place_behind_it() -> None:
    def stream(kind: ConnectionType) -> SimpleNamespace:
        connection = SimpleNamespace(peer_id="somebody", get_connection_type=lambda: kind)
        return SimpleNamespace(muxed_conn=connection, get_remote_address=lambda: (RELAY, 4001))

    assert place_of_stream(stream(ConnectionType.RELAYED)) == place_behind(RELAY, "somebody")
    assert place_of_stream(stream(ConnectionType.DIRECT)) == RELAY
    hidden = SimpleNamespace(muxed_conn=SimpleNamespace(peer_id="x"), get_remote_address=lambda: (RELAY, 1))
    assert place_of_stream(hidden) == RELAY  # as beneath a group key, where the library does not tell
