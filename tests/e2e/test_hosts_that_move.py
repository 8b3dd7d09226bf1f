"""Real daemons on hosts whose addresses are taken away and given anew: they meet again without a restart.

Slow tests: in every run of the tests transports of real libp2p move in tests/contract/test_addresses_that_change.py, and the core
follows whom it knew in virtual time.
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from p2pfinetune.system import interpreter
from peerd.wire.keys import PeerKey
from tests.linkfaults.hosts import Hosts, missing

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(600)]

EVERYWHERE = ("/ip4/0.0.0.0/tcp/4002",)
MET_SECONDS = 120.0  # on a machine that is busy with other things; alone it takes five to fifteen


@pytest.fixture(scope="module")
def hosts():
    if why := missing():
        pytest.skip(f"REAL HOSTS ARE NOT TESTED HERE: {why}")
    with Hosts(3) as made:
        yield made


@pytest.fixture(scope="module")
def node(hosts, tmp_path_factory):
    """A bootstrap node on host 1, which stays where it is; its address."""
    where = f"/ip4/{hosts.address(1)}/tcp/4001"
    words = ["start", "--home", str(tmp_path_factory.mktemp("node")), "--listen", where, "--json"]
    command = [*hosts.command(1), *interpreter.command("-m", "bootstrap"), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield json.loads(process.stdout.readline())["data"]["addresses"][0]
    process.terminate()
    process.communicate(timeout=30)


@pytest.fixture(scope="module")
def two(town, hosts, node):
    """On hosts 2 and 3: they know the bootstrap node, and look on the local network too."""
    homes = []
    for host, name in ((2, "ada"), (3, "bob")):
        home = town.home(
            name,
            seed=host,
            prefix=hosts.command(host),
            listen=EVERYWHERE,
            bootstrap=(node,),
            steps_per_round=4,
            lan=True,
        )
        home.peer_id = PeerKey.load_or_create(home.paths.identity).peer_id
        homes.append(home.start())
    for home in homes:
        home.ready()
    return homes


def meet(homes):
    """Until each is connected with the other, and has heard of it what was said after now."""
    deadline, before = time.monotonic() + MET_SECONDS, [heard(home) for home in homes]
    for home, bytes_in in zip(homes, before, strict=True):
        others = {other.peer_id for other in homes} - {home.peer_id}
        while connected(home) != others or heard(home) <= bytes_in:
            assert time.monotonic() < deadline, (home.folder.name, home.status(), home.said())
            time.sleep(0.5)


def connected(home):
    return {neighbour.peer_id for neighbour in home.status().neighbours if neighbour.connected}


def heard(home):
    return home.status().traffic.bytes_in


def part(homes):
    """Until each is alone."""
    deadline = time.monotonic() + MET_SECONDS
    for home in homes:
        while connected(home):
            assert time.monotonic() < deadline, (home.folder.name, home.status(), home.said())
            time.sleep(0.5)


def shown(home):
    """The addresses of `peerd id` that others can dial."""
    found = home.json("id")["data"]["addresses"]
    return [address.split("/")[2] for address in found if not address.startswith("/ip4/127.")]


def until_shown(home, *expected):
    deadline = time.monotonic() + 30
    while shown(home) != list(expected):
        assert time.monotonic() < deadline, (home.folder.name, shown(home), home.said())
        time.sleep(0.3)


def test_both_ends_move_and_meet_again_without_a_restart(hosts, two):
    meet(two)
    began = [home.process.pid for home in two]

    for host, elsewhere in ((2, 12), (3, 13)):
        hosts.move(host, elsewhere)
    for home, elsewhere in zip(two, (12, 13), strict=True):
        until_shown(home, hosts.numbered(elsewhere))

    meet(two)
    assert [home.process.pid for home in two] == began
    assert all(home.process.poll() is None for home in two)


def test_an_address_that_comes_after_it_had_none_is_followed(hosts, two):
    meet(two)
    hosts.move(3, None)
    until_shown(two[1])
    part(two)

    hosts.move(3, 23)

    until_shown(two[1], hosts.numbered(23))
    meet(two)
