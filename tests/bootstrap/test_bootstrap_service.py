"""The rendezvous node as a real process, and asked by a real libp2p peer."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bootstrap.registry import State
from bootstrap.service import WORDS, Rendezvous
from p2pfinetune.names import Refusal
from peerd.net import limits
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Failed
from peerd.wire.addresses import given_addresses, parse_address
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Register, Sample
from peerd.wire.traits import Traits
from tests.support.shelves import EmptyShelf

NETWORK, OTHER = "a" * 64, "b" * 64


def start(home: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from bootstrap.cli import main; main()", "start", "--home", str(home), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def node(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "identity").write_bytes(bytes([7]) * 32)  # known, since tags under it are compared
    (tmp_path / "home" / "identity").chmod(0o600)
    process = start(tmp_path / "home", "--listen", "/ip4/127.0.0.1/tcp/0", "--json")
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def ask(address: str, *questions: tuple[int, Register], psk: str | None = None) -> list[Sample | Failed]:
    """Each question by a peer of its own, which is the seed's."""

    async def main() -> list[Sample | Failed]:
        answers = []
        for seed, question in questions:
            transport = Libp2pTransport(
                PeerKey(bytes([seed]) * 32), question.network, EmptyShelf(), listen=["/ip4/127.0.0.1/tcp/0"], psk=psk
            )
            transport.traits = Traits(group=question.network)
            await transport.start()
            answers.append(await transport.register(parse_address(address), question))
            assert transport.connected() == frozenset()
            await transport.stop()
        return answers

    return asyncio.run(main())


def test_peers_meet_at_the_node_and_a_signal_stops_it_though_somebody_says_nothing(node):
    process, document = node
    address = document["data"]["addresses"][0]
    question = Register(network=NETWORK, addresses=("/ip4/127.0.0.1/tcp/4001",))
    stranger = Register(network=OTHER, addresses=("/ip4/127.0.0.1/tcp/4002",))

    first, foreign, second = ask(address, (1, question), (2, stranger), (3, question))
    (keyed,) = ask(address, (4, question), psk="ab" * 32)
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", given_addresses([address], "")[0].port)):  # says nothing for ever
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)

    assert document["command"] == "start"
    assert document["data"]["peer_id"] in address
    assert (first.status, first.peers) == ("ok", ())
    assert (foreign.peers, foreign.others) == ((), ("group",))
    assert (keyed.reason, keyed.differs) == ("other-key", ("no-key",))
    assert "came who has a group key that this node lacks" in told
    assert [record.peer for record in second.peers] == [PeerKey(b"\1" * 32).peer_id]
    assert process.returncode == 0
    assert time.monotonic() - began < limits.UPGRADE_SECONDS  # the silent one is not waited for
    assert "3 ok" in told


def test_a_second_node_on_the_port_is_refused_and_the_key_is_kept(node, tmp_path):
    _, document = node
    address = document["data"]["addresses"][0].rsplit("/p2p/", 1)[0]

    second = start(tmp_path / "home", "--listen", address, "--json")
    out, told = second.communicate(timeout=60)
    error = json.loads(out)

    assert second.returncode == 1
    assert (error["status"], error["error"]["code"]) == ("error", "transport")
    assert "Address already in use" in told
    assert document["data"]["peer_id"] == PeerKey.load_or_create(tmp_path / "home" / "identity").peer_id


def test_a_bad_address_is_bad_usage(tmp_path):
    process = start(tmp_path, "--listen", "0.0.0.0:4001")
    _, told = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "'0.0.0.0:4001'" in told
    assert "/ip4/0.0.0.0/tcp/4001" in told


def test_of_those_who_cannot_be_understood_each_kind_is_said_once_an_hour_however_many_come():
    now, said = [0.0], []
    rendezvous = Rendezvous(State(), lambda: now[0], random.Random(0), said.append)
    for now[0] in (0.0, 1.0, 3599.0, 3601.0):
        rendezvous.met(("key",))
        rendezvous.met(())
    rendezvous.met(("no-key",))

    assert said == [WORDS["key"], WORDS["key"], WORDS["no-key"]]
    assert rendezvous.counts == {"met-key": 4, "met-no-key": 1}


def test_nonsense_is_answered_and_counted():
    rendezvous = Rendezvous(State(), lambda: 0.0, random.Random(0))

    answer = rendezvous.answer(PeerKey(bytes(32)).peer_id, "192.0.2.1", Refusal("malformed"))

    assert answer == Sample(status="bad-request")
    assert rendezvous.counts == {"malformed": 1}


def test_the_home_can_come_from_the_environment(monkeypatch, tmp_path):
    from bootstrap.cli import home_of

    monkeypatch.setenv("PEERD_BOOTSTRAP_HOME", str(tmp_path))

    assert home_of(None) == tmp_path
    assert home_of(Path("/elsewhere")) == Path("/elsewhere")
    monkeypatch.delenv("PEERD_BOOTSTRAP_HOME")
    assert home_of(None).name == "peerd-bootstrap"
    assert home_of(None).is_absolute()
