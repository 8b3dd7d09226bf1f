from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from peerd.discovery import METHODS, DiscoveryContext, discover
from peerd.net.transport import Failed, Found
from peerd.store.port import KnownPeer
from peerd.wire.addresses import given_addresses
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ADDRESSES, PeerRecord, Register, Sample

ME, ADA, BOB, NODE = (PeerKey(bytes([n]) * 32).peer_id for n in range(4))
NODES = given_addresses([f"/ip4/192.0.2.9/tcp/4001/p2p/{NODE}"], "--bootstrap")


class EnoughError(Exception):
    """The scenario is over."""


class Clock:
    """Sleeps take no time; after so many of them it is enough."""

    def __init__(self, limit: int) -> None:
        self.slept: list[float] = []
        self._limit = limit

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        if len(self.slept) >= self._limit:
            raise EnoughError


def context(clock: Clock, **changes: object) -> DiscoveryContext:
    given = {"me": ME, "network": "a" * 64, "addresses": lambda: ("/ip4/192.0.2.1/tcp/1",), "random": random.Random(0)}
    return DiscoveryContext(**{**given, "sleep": clock.sleep, **changes})


def found(name: str, around: DiscoveryContext, **options: object) -> list[Found]:
    finds: list[Found] = []
    try:
        asyncio.run(discover(METHODS.make(name, options), around, finds.append))
    except* EnoughError:
        pass
    return finds


def answering(*answers: Sample | Failed) -> tuple[list[Register], Callable]:
    asked: list[Register] = []

    async def register(node, message):
        asked.append(message)
        return answers[min(len(asked), len(answers)) - 1]

    return asked, register


def test_there_are_these_methods_and_each_explains_itself():
    assert METHODS.names() == ("bootstrap", "peers", "remembered")
    assert all(METHODS.help(name) for name in METHODS.names())


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_with_nothing_to_go_by_ends(name):
    assert found(name, context(Clock(3))) == []


def test_given_peers_are_told_of_again_and_again():
    clock = Clock(2)
    peers = given_addresses([f"/ip4/192.0.2.2/tcp/1/p2p/{ADA}"], "--peer")

    finds = found("peers", context(clock, peers=peers), repeat_seconds=9.0)

    assert finds == [Found(ADA, (str(peers[0]),), "peer")] * 2
    assert clock.slept == [9.0, 9.0]


def test_remembered_peers_are_told_of_once_best_first():
    known = tuple(
        KnownPeer(peer=peer, addresses=("/ip4/192.0.2.2/tcp/1", "nonsense"), last_good_unix=0.0) for peer in (BOB, ADA)
    )

    finds = found("remembered", context(Clock(3), remembered=known))

    assert [find.peer for find in finds] == [BOB, ADA]
    assert finds[0].addresses == (f"/ip4/192.0.2.2/tcp/1/p2p/{BOB}",)


def test_nobody_hears_of_oneself():
    known = (KnownPeer(peer=ME, addresses=("/ip4/192.0.2.2/tcp/1",), last_good_unix=0.0),)

    assert found("remembered", context(Clock(3), remembered=known)) == []


def test_a_bootstrap_node_is_told_where_we_are_and_tells_of_others():
    records = (
        PeerRecord(peer=ADA, addresses=("/ip4/192.0.2.2/tcp/1",)),
        PeerRecord(peer=BOB, addresses=("/ip4/0.0.0.0/tcp/1",)),
    )
    asked, register = answering(Sample(status="ok", peers=records, expires_seconds=600))

    finds = found("bootstrap", context(Clock(1), bootstrap=NODES, register=register))

    assert asked == [Register(network="a" * 64, addresses=("/ip4/192.0.2.1/tcp/1",), want=16)]
    assert finds == [Found(ADA, (f"/ip4/192.0.2.2/tcp/1/p2p/{ADA}",), "bootstrap")]


def test_a_bootstrap_node_that_knows_others_of_other_networks_alone_is_told_of_with_what_they_differ_in():
    kept = []
    record = PeerRecord(peer=ADA, addresses=("/ip4/192.0.2.2/tcp/1",))
    for sample in (
        Sample(status="ok", others=("group",)),
        Sample(status="ok", peers=(record,), others=("group",)),  # it lies, or both: in company it does not matter
        Sample(status="quota"),
    ):
        _, register = answering(sample)
        around = context(
            Clock(1), bootstrap=NODES, register=register, others=lambda node, kinds: kept.append((node, kinds))
        )
        found("bootstrap", around)

    assert kept == [(NODES[0], ("group",)), (NODES[0], ()), (NODES[0], ())]


def test_announced_addresses_are_registered_first_and_with_the_others_are_no_more_than_a_message_holds():
    asked, register = answering(Sample(status="ok"))
    public, own = "/ip4/1.1.1.1/tcp/1", tuple(f"/ip4/192.0.2.{n}/tcp/1" for n in range(12))

    found("bootstrap", context(Clock(1), bootstrap=NODES, register=register, addresses=lambda: (public, *own)))

    assert asked[0].addresses == (public, *own[: MAX_ADDRESSES - 1])


def test_a_hostile_bootstrap_node_is_asked_no_more_often_and_heard_no_longer_than_another():
    clock = Clock(20)
    names = [PeerKey(bytes([n]) * 32).peer_id for n in range(64)]
    records = tuple(PeerRecord(peer=name, addresses=("/ip4/192.0.2.2/tcp/1",)) for name in names)
    asked, register = answering(Sample(status="ok", peers=records, expires_seconds=1))

    finds = found("bootstrap", context(clock, bootstrap=NODES, register=register))

    assert len(finds) <= len(asked) * asked[0].want
    assert min(clock.slept) >= 3.0


def test_a_bootstrap_node_is_told_where_we_listen_now_not_where_we_did_at_once():
    here, clock = ["/ip4/192.0.2.1/tcp/1"], Clock(6)

    async def sleep(seconds):
        await clock.sleep(seconds)
        if len(clock.slept) == 4:
            here[0] = "/ip4/192.0.2.9/tcp/1"
            return True
        return False

    asked, register = answering(Sample(status="ok"))
    around = context(clock, bootstrap=NODES, register=register, addresses=lambda: (here[0],), sleep=sleep)
    found("bootstrap", around)

    assert [message.addresses[0] for message in asked] == ["/ip4/192.0.2.1/tcp/1"] * 4 + ["/ip4/192.0.2.9/tcp/1"] * 2
    assert clock.slept[3] > 3 * clock.slept[4]  # the pauses begin anew: who has moved is asked for soon


def test_one_that_moves_while_it_registers_does_so_again_without_a_rest():
    here, asked, clock = ["/ip4/192.0.2.1/tcp/1"], [], Clock(1)

    async def register(node, message):
        asked.append(message.addresses[0])
        here[0] = "/ip4/192.0.2.9/tcp/1"
        return Sample(status="ok")

    found("bootstrap", context(clock, bootstrap=NODES, register=register, addresses=lambda: (here[0],)))

    assert asked == ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.9/tcp/1"]


def test_a_node_that_was_gone_is_asked_again_within_two_minutes_and_a_half_however_long_it_was_gone():
    clock = Clock(40)
    _, register = answering(Failed("unreachable", "does not answer"))

    found("bootstrap", context(clock, bootstrap=NODES, register=register))

    assert max(clock.slept) <= 150.0


def test_the_pause_grows_to_its_limit_and_never_past_a_third_of_the_registration():
    clock = Clock(9)
    _, register = answering(Sample(status="ok", expires_seconds=300))

    found("bootstrap", context(clock, bootstrap=NODES, register=register))

    assert 3.0 <= clock.slept[0] <= 5.0
    assert all(later > earlier for earlier, later in zip(clock.slept[:4], clock.slept[1:5], strict=True))
    assert all(75.0 <= pause <= 125.0 for pause in clock.slept[6:])
    assert len(set(clock.slept[6:])) > 1  # not in step with all others


def test_a_dead_node_is_asked_for_ever_and_each_answer_is_kept_for_the_user():
    clock, heard = Clock(4), []
    dead = Failed("unreachable", "does not answer")
    asked, register = answering(dead, dead, Sample(status="ok"), Sample(status="quota"))

    found(
        "bootstrap",
        context(clock, bootstrap=NODES, register=register, asked=lambda node, failed: heard.append((node, failed))),
    )

    assert len(asked) == 4
    assert heard == [(NODES[0], answer) for answer in (dead, dead, None, Failed("busy", "refuses us (quota)"))]


def test_a_dead_node_does_not_keep_another_waiting():
    other = given_addresses([f"/ip4/192.0.2.8/tcp/4001/p2p/{BOB}"], "--bootstrap")
    records = (PeerRecord(peer=ADA, addresses=("/ip4/192.0.2.2/tcp/1",)),)

    async def register(node, message):
        if node == NODES[0]:
            await asyncio.Event().wait()
        return Sample(status="ok", peers=records)

    finds = found("bootstrap", context(Clock(2), bootstrap=NODES + other, register=register))

    assert len(finds) == 2
