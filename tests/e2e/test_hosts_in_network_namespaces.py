"""Four daemons on four hosts of their own: their network is parted, healed, pulled out and throttled.

Slow tests all of them: tests/sim parts and heals the same core in virtual time, and tests/contract real transports behind a
proxy that cuts, delays and throttles.
"""

from __future__ import annotations

import time

import pytest

from peerd.net.libp2p.alive import MAX_MISSED, PING_SECONDS
from peerd.wire.keys import PeerKey
from tests.linkfaults.hosts import Hosts, missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(1200),
]  # daemons take seconds of CPU time each, silence its minute

NAMES = ("ada", "bob", "eve", "joe")
NOTICED_SECONDS = (MAX_MISSED + 2) * PING_SECONDS  # the last ping that was heard, and a busy machine


@pytest.fixture(scope="module")
def hosts():
    if why := missing():
        pytest.skip(f"REAL HOSTS ARE NOT TESTED HERE: {why}")
    with Hosts(len(NAMES)) as made:
        yield made


@pytest.fixture(scope="module")
def four(town, hosts):
    """A chain of introductions across the trunk: each knows the one before."""
    homes, before = [], ()
    for host, name in enumerate(NAMES, start=1):
        where = f"/ip4/{hosts.address(host)}/tcp/4001"
        home = town.home(
            name,
            seed=host,
            prefix=hosts.command(host),
            listen=(where,),
            peer=before,
            steps_per_round=4,
            collect_seconds=5.0,
        )
        home.peer_id = PeerKey.load_or_create(home.paths.identity).peer_id
        before = (f"{where}/p2p/{home.peer_id}",)
        homes.append(home.start())
    for home in homes:
        home.ready()
    return homes


def connected(home):
    return {neighbour.peer_id for neighbour in home.status().neighbours if neighbour.connected}


def see(homes, *, seconds=180.0):
    """Until each of these sees exactly the others of them."""
    deadline = time.monotonic() + seconds
    for home in homes:
        expected = {other.peer_id for other in homes} - {home.peer_id}
        while connected(home) != expected:
            assert time.monotonic() < deadline, (home.folder.name, home.status().neighbours, home.said())
            time.sleep(0.5)


def merge_anew(homes):
    """Until each has merged with all the others in one round that began after now."""
    for home, last in [(home, home.status().round) for home in homes]:
        wanted = {other.peer_id for other in homes}
        home.until(lambda status, home=home, last=last, wanted=wanted: latest_row(home, last) >= wanted)


def latest_row(home, after):
    """Who took part in the last round, if it began later than that one."""
    records = home.rounds()
    return set(records[-1].row) if records and records[-1].round > after + 1 else set()


def test_four_hosts_that_know_one_neighbour_each_form_one_group(four):
    see(four)
    merge_anew(four)


def test_two_and_two_part_show_it_go_on_and_merge_again_without_a_restart(hosts, four):
    see(four)
    hosts.trunk(up=False)
    rounds = [home.status().round for home in four]
    try:
        see(four[:2], seconds=NOTICED_SECONDS + 60)
        see(four[2:], seconds=60)
        shown = {peer["peer_id"]: peer["connected"] for peer in four[0].json("peers")["data"]["peers"]}
        assert shown == {four[1].peer_id: True, four[2].peer_id: False, four[3].peer_id: False}
        for home, round_ in zip(four, rounds, strict=True):
            home.until(lambda status, round_=round_: status.round >= round_ + 3)
    finally:
        hosts.trunk(up=True)

    see(four)
    merge_anew(four)


@pytest.mark.parametrize("seconds", [30.0, 600.0])
def test_when_every_cable_is_pulled_all_go_on_alone_and_find_one_another_again(hosts, four, seconds):
    see(four)
    for host in range(1, 5):
        hosts.link(host, up=False)
    try:
        for home in four:
            home.until(lambda status: not any(neighbour.connected for neighbour in status.neighbours))
            home.until(lambda status: "alone" in status.sentence)
        before = [home.status().round for home in four]
        time.sleep(seconds)
        for home, round_ in zip(four, before, strict=True):
            home.until(lambda status, round_=round_: status.round >= round_ + 3)
    finally:
        for host in range(1, 5):
            hosts.link(host, up=True)

    see(four)
    merge_anew(four)


def test_links_of_a_megabit_a_second_carry_transfers_and_rounds(hosts, four):
    see(four)
    for host in range(1, 5):
        hosts.shape(host, "1mbit")
    try:
        before = [home.status().traffic.bytes_in for home in four]
        merge_anew(four)
        for home, bytes_in in zip(four, before, strict=True):
            home.until(lambda status, bytes_in=bytes_in: status.traffic.bytes_in >= bytes_in + 100_000)
    finally:
        for host in range(1, 5):
            hosts.shape(host, None)
    assert all(home.process.poll() is None for home in four)
