from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bootstrap.registry import Quotas, State, expired, register
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Register, Why

NETWORK, OTHER = "a" * 64, "b" * 64
PEERS = [PeerKey(bytes([n]) * 32).peer_id for n in range(12)]
HOST = "192.0.2.1"


def message(network: str = NETWORK, want: int = 16, port: int = 4001) -> Register:
    return Register(network=network, addresses=(f"/ip4/192.0.2.1/tcp/{port}",), want=want)


def registered(count: int, *, quotas: Quotas | None = None, network: str = NETWORK) -> State:
    state = State(quotas=quotas or Quotas())
    for n, peer in enumerate(PEERS[:count]):
        state, sample = register(state, 0.0, peer, f"192.0.2.{n}", message(network), random.Random(0))
        assert sample.status == "ok"
    return state


def test_the_first_peer_is_remembered_and_hears_of_nobody():
    state, sample = register(State(), 5.0, PEERS[0], HOST, message(), random.Random(0))

    assert (sample.status, sample.peers, sample.expires_seconds) == ("ok", (), 600)
    assert state.registrations[NETWORK, PEERS[0]].expires_at == 605.0


def test_the_second_peer_hears_of_the_first_and_where_it_is():
    _, sample = register(registered(1), 1.0, PEERS[1], HOST, message(), random.Random(0))

    assert [record.peer for record in sample.peers] == [PEERS[0]]
    assert sample.peers[0].addresses == (f"/ip4/192.0.2.1/tcp/4001/p2p/{PEERS[0]}",)


def test_peers_of_another_network_are_never_handed_out():
    _, sample = register(registered(5), 1.0, PEERS[6], HOST, message(OTHER), random.Random(0))

    assert sample.peers == ()


WHY = Why(version=2, group="aa", model="bb", adapter="cc")


def test_who_is_alone_in_its_network_hears_in_what_the_nearest_other_one_differs():
    state = registered(1, network="c" * 64)  # of an older version, which says nothing of itself
    for n, why in ((1, replace(WHY, group="00", model="00")), (2, replace(WHY, group="00"))):
        question = msgspec.structs.replace(message(OTHER[n:] + "c" * n), why=why)
        state, _ = register(state, 0.0, PEERS[n], f"192.0.2.{n}", question, random.Random(0))
    mine = msgspec.structs.replace(message(), why=WHY)

    alone, sample = register(state, 1.0, PEERS[6], HOST, mine, random.Random(0))
    _, in_company = register(alone, 1.0, PEERS[7], HOST, mine, random.Random(0))
    _, silent = register(state, 1.0, PEERS[8], HOST, message(), random.Random(0))

    assert (sample.peers, sample.others) == ((), ("group",))
    assert (len(in_company.peers), in_company.others) == (1, ())
    assert silent.others == ()


def test_what_one_was_registered_under_before_is_no_other_network():
    before = msgspec.structs.replace(message(OTHER), why=replace(WHY, group="00"))
    state, _ = register(State(), 0.0, PEERS[0], HOST, before, random.Random(0))
    _, sample = register(state, 1.0, PEERS[0], HOST, msgspec.structs.replace(message(), why=WHY), random.Random(0))

    assert sample.others == ()


def test_a_registration_expires_and_can_be_renewed():
    state = registered(2)
    state, _ = register(state, 500.0, PEERS[0], HOST, message(), random.Random(0))

    late = expired(state, 700.0)

    assert [peer for _, peer in late.registrations] == [PEERS[0]]


def test_a_sample_is_as_large_as_asked_and_holds_no_peer_twice():
    _, sample = register(registered(10), 1.0, PEERS[11], HOST, message(want=4), random.Random(0))

    assert len({record.peer for record in sample.peers}) == 4


def test_every_other_peer_is_as_likely():
    state, counts = registered(9), dict.fromkeys(PEERS[:9], 0)
    for seed in range(900):
        _, sample = register(state, 1.0, PEERS[9], HOST, message(want=3), random.Random(seed))
        for record in sample.peers:
            counts[record.peer] += 1

    assert all(230 < count < 370 for count in counts.values())  # 300 expected each, standard deviation 14


def test_a_crowd_registered_from_one_host_is_one_of_those_that_a_newcomer_hears_of():
    state = registered(4)
    for n in range(200):
        crowd = PeerKey((1 + n).to_bytes(32, "big")).peer_id
        state, _ = register(state, 0.0, crowd, "203.0.113.9", message(), random.Random(0))

    _, sample = register(state, 1.0, PEERS[4], HOST, message(want=8), random.Random(1))

    assert len(sample.peers) == 8  # who is alone with a crowd of one household still hears of it
    assert {record.peer for record in sample.peers[:5]} > set(PEERS[:4])


def test_a_way_through_a_relay_is_kept_for_those_who_can_go_it():
    relayed = f"/ip4/192.0.2.9/tcp/4001/p2p/{PEERS[5]}/p2p-circuit"
    state, _ = register(State(), 0.0, PEERS[0], HOST, Register(network=NETWORK, addresses=(relayed,)), random.Random(0))

    _, sample = register(state, 1.0, PEERS[1], HOST, message(), random.Random(0))

    assert sample.peers[0].addresses == (f"{relayed}/p2p/{PEERS[0]}",)


def test_addresses_that_cannot_be_dialled_are_not_handed_out():
    bad = Register(network=NETWORK, addresses=("nonsense", "/ip4/0.0.0.0/tcp/1", f"/ip4/10.0.0.1/tcp/1/p2p/{PEERS[5]}"))
    state, sample = register(State(), 0.0, PEERS[0], HOST, bad, random.Random(0))
    _, other = register(state, 0.0, PEERS[1], HOST, message(), random.Random(0))

    assert sample.status == "ok"
    assert other.peers == ()


def test_a_peer_that_asks_too_often_is_over_its_quota_until_the_window_ends():
    state, answers = State(quotas=Quotas(requests_per_peer=3)), []
    for _ in range(5):
        state, sample = register(state, 100.0, PEERS[0], HOST, message(), random.Random(0))
        answers.append(sample.status)
    _, later = register(state, 131.0, PEERS[0], HOST, message(), random.Random(0))

    assert answers == ["ok", "ok", "ok", "quota", "quota"]
    assert later.status == "ok"


def test_a_host_that_asks_too_often_under_many_names_is_over_its_quota():
    state, answers = State(quotas=Quotas(requests_per_host=3)), []
    for peer in PEERS[:5]:
        state, sample = register(state, 100.0, peer, HOST, message(), random.Random(0))
        answers.append(sample.status)

    assert answers == ["ok", "ok", "ok", "quota", "quota"]


def test_one_host_registers_so_many_peers_and_may_renew_them():
    state, answers = State(quotas=Quotas(peers_per_host=2)), []
    for peer in [*PEERS[:3], PEERS[0]]:
        state, sample = register(state, 0.0, peer, HOST, message(), random.Random(0))
        answers.append(sample.status)

    assert answers == ["ok", "ok", "quota", "ok"]


def test_one_peer_registers_in_so_many_networks():
    state, answers = State(quotas=Quotas(networks_per_peer=2)), []
    for network in ("1" * 64, "2" * 64, "3" * 64):
        state, sample = register(state, 0.0, PEERS[0], HOST, message(network), random.Random(0))
        answers.append(sample.status)

    assert answers == ["ok", "ok", "quota"]


def test_a_full_node_says_so_until_somebody_expires():
    state = registered(2, quotas=Quotas(peers=2))
    state, now = register(state, 1.0, PEERS[2], HOST, message(), random.Random(0))
    _, later = register(state, 601.0, PEERS[2], HOST, message(), random.Random(0))

    assert (now.status, later.status) == ("full", "ok")


def test_in_a_full_node_the_most_crowded_host_makes_room_for_another():
    state = State(quotas=Quotas(peers=4, requests_per_peer=100))
    for n, peer in enumerate(PEERS[:4]):
        state, _ = register(state, float(n), peer, HOST, message(), random.Random(0))

    state, sample = register(state, 5.0, PEERS[5], "198.51.100.1", message(), random.Random(0))
    _, again = register(state, 6.0, PEERS[6], HOST, message(), random.Random(0))

    assert sample.status == "ok"
    assert [peer for _, peer in state.registrations] == [*PEERS[1:4], PEERS[5]]
    assert again.status == "full"


def test_requesters_are_remembered_only_so_many():
    state = State(quotas=Quotas(tracked=4))
    for n in range(50):
        state, _ = register(state, 0.0, PEERS[n % 12], f"198.51.100.{n}", message(), random.Random(0))

    assert len(state.window.requests) <= 4


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 400), st.sampled_from(PEERS), st.sampled_from(["h1", "h2"]), st.sampled_from([NETWORK, OTHER])
        ),
        max_size=40,
    )
)
def test_no_flood_breaks_a_quota_and_no_sample_leaks(steps):
    quotas = Quotas(
        peers=6, networks_per_peer=1, peers_per_host=4, requests_per_peer=5, tracked=20, lifetime_seconds=50
    )
    state, now = State(quotas=quotas), 0.0
    for passed, peer, host, network in steps:
        now += passed
        before = state
        state, sample = register(state, now, peer, host, message(network, want=3), random.Random(0))

        assert len(state.registrations) <= quotas.peers
        assert len(state.window.requests) <= quotas.tracked
        assert len(sample.peers) <= 3
        assert peer not in {record.peer for record in sample.peers}
        assert all((network, record.peer) in before.registrations for record in sample.peers)
        for owner in {p for _, p in state.registrations}:
            assert sum(p == owner for _, p in state.registrations) <= 1


def test_the_state_is_a_value():
    with pytest.raises(AttributeError):
        State().quotas = Quotas()  # type: ignore[misc]
    before = registered(1)
    after, _ = register(before, 1.0, PEERS[1], HOST, message(), random.Random(0))

    assert len(before.registrations) == 1
    assert msgspec.structs.replace(after) == after
