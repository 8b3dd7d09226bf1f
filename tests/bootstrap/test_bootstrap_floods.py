"""A rendezvous node as a real process under attack: bounded, and honest peers still find one another."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time

import psutil
import pytest

from bootstrap.service import MAX_CONNECTIONS
from p2pfinetune.system import interpreter
from peerd.net import limits
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Failed
from peerd.wire.addresses import parse_address
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Register, Sample
from tests.attackers.ready import Ready
from tests.support.shelves import EmptyShelf

NETWORK = "a" * 64
SECONDS = 1.5
PATIENCE_SECONDS = 60.0
MAX_GROWTH_MIB = 64  # a place holds half a MB at worst, a registration 2.5 KB


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    home = tmp_path_factory.mktemp("node")
    command = [*interpreter.command("-m", "bootstrap"), "start", "--home", str(home), "--json"]
    process = subprocess.Popen(
        [*command, "--listen", "/ip4/127.0.0.1/tcp/0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield psutil.Process(process.pid), json.loads(process.stdout.readline())["data"]["addresses"][0]
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def attackers():
    found = Ready()
    yield found
    found.end()


async def ask(address: str, seed: int) -> Sample | Failed:
    """As an honest peer: again, where it was no use."""
    transport = Libp2pTransport(PeerKey(bytes([seed]) * 32), NETWORK, EmptyShelf(), listen=["/ip4/127.0.0.1/tcp/0"])
    await transport.start()
    question = Register(network=NETWORK, addresses=(f"/ip4/127.0.0.1/tcp/{4000 + seed}",), want=64)
    deadline = time.monotonic() + PATIENCE_SECONDS
    answer: Sample | Failed = Failed("unreachable")
    while time.monotonic() < deadline and not (isinstance(answer, Sample) and answer.status == "ok"):
        answer = await transport.register(parse_address(address), question)
    await transport.stop()
    return answer


@pytest.mark.parametrize("attack", ["register-flood", "connection-flood", "slow-register", "slow-loris", "huge-prefix"])
def test_the_node_stays_bounded_and_honest_peers_find_each_other(node, attackers, attack):
    process, address = node
    before, most, descriptors = process.memory_info().rss, 0, 0
    arguments = (attack, address, "--seconds", SECONDS, "--source", "127.0.0.2")

    async def two_meet() -> Sample | Failed:
        await ask(address, 201)
        return await ask(address, 202)

    with attackers.attacking(*arguments) as attacker:
        met = asyncio.run(two_meet())
        while psutil.pid_exists(attacker.pid):
            most = max(most, process.memory_info().rss)
            descriptors = max(descriptors, process.num_fds())
            time.sleep(0.05)
        done = attacker.done()

    assert set(done) - {"cut"}, "there was no attack"
    assert isinstance(met, Sample)
    assert met.status == "ok"
    assert PeerKey(bytes([201]) * 32).peer_id in {record.peer for record in met.peers} or len(met.peers) == 64
    assert (most - before) / 2**20 <= MAX_GROWTH_MIB
    assert descriptors <= MAX_CONNECTIONS + limits.MAX_PENDING + 32
