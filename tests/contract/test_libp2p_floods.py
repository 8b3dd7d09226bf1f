"""Attackers in a process of their own against a peer in another, whose memory and descriptors are measured.

Longer, and against whatever: `python -m tests.attackers NAME MULTIADDR --seconds N`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest

from peerd.net import limits
from peerd.net.transport import Connected, Fetched, Heard
from peerd.wire.addresses import parse_address
from peerd.wire.envelope import opened
from tests.attackers import ON_PEERS
from tests.attackers.ready import Ready

SECONDS = float(os.environ.get("PEERD_FLOOD_SECONDS", "1.2"))
PATIENCE_SECONDS = 60.0  # on a machine that is busy with other things
MAX_GROWTH_MIB = 64  # what every place for a connection may hold unread comes to 48
SPARE_DESCRIPTORS = limits.MAX_PENDING + 8  # those being refused are open for a moment

COUNTED = {  # of whom and as what; how many announcements are dropped hangs on the speed of the machine
    "slow-loris": "connections-refused",
    "slow-streams": "streams-refused",
    "stream-flood": "streams-refused",
    "huge-prefix": "streams-failed",
}


class Victim:
    """The process that is attacked."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.attackers.victim"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = json.loads(self.process.stdout.readline())
        self.address, self.blob = told["address"], told["blob"]
        self.id = parse_address(self.address).peer
        self.seen = psutil.Process(self.process.pid)
        self.attackers = Ready()

    def mib(self) -> float:
        return self.seen.memory_info().rss / 2**20

    def descriptors(self) -> int:
        return self.seen.num_fds()

    def counts(self) -> dict[str, int]:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    @contextmanager
    def attacked(self, name: str, source: str = "127.0.0.2", seconds: float = SECONDS):
        """The most that was measured meanwhile: MiB and descriptors; and what the attacker managed."""
        options = ["--blob", self.blob] if name == "slow-reader" else []
        arguments = [name, self.address, "--seconds", seconds, "--source", source, *options]
        most, over = {"mib": 0.0, "descriptors": 0, "done": {}}, threading.Event()

        def measure() -> None:
            while not over.wait(0.05):
                most["mib"] = max(most["mib"], self.mib())
                most["descriptors"] = max(most["descriptors"], self.descriptors())

        meter = threading.Thread(target=measure)
        meter.start()
        try:
            with self.attackers.attacking(*arguments) as attacker:
                yield most
                most["done"] = attacker.done()
        finally:
            over.set()
            meter.join()


@pytest.fixture(scope="module")
def victim():
    found = Victim()
    with found.process:  # whose end of its input is the end of it
        yield found
        found.attackers.end()


def is_so_within(condition, seconds: float = PATIENCE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


async def honest_peer_gets_its_blob(world, victim) -> None:
    honest = await world.peer()
    assert isinstance(await honest.transport.connect(victim.id, [victim.address]), Connected)
    await fetches(honest, victim)


async def fetches(honest, victim) -> None:
    honest.shelf.blobs.clear()
    size = 256 * 8000
    async with asyncio.timeout(PATIENCE_SECONDS):  # on a busy machine a stream may take longer than its limit
        while not isinstance(got := await honest.transport.fetch(victim.blob, size, [victim.id], 60.0), Fetched):
            assert victim.id in honest.transport.connected(), got
    assert got.source == victim.id
    assert honest.shelf.size(victim.blob) == size


@pytest.fixture(scope="module")
def warm(victim):
    """What a peer needs once it has done everything once; the attacks before come on top."""
    with victim.attacked("identity-flood", seconds=0.5):
        pass
    assert is_so_within(lambda: victim.counts()["open"] == 0)
    return {"mib": victim.mib(), "descriptors": victim.descriptors()}


@pytest.mark.parametrize("attack", ON_PEERS)
def test_memory_and_descriptors_stay_bounded_and_an_honest_peer_is_served(play_libp2p, victim, warm, attack):
    counted = COUNTED.get(attack, "")
    before = victim.counts().get(counted, 0)

    async def scenario(world):
        await asyncio.sleep(SECONDS / 2)
        await honest_peer_gets_its_blob(world, victim)

    with victim.attacked(attack) as most:
        play_libp2p(scenario)

    assert set(most["done"]) - {"cut"}, "there was no attack"
    assert most["mib"] - warm["mib"] <= MAX_GROWTH_MIB
    assert most["descriptors"] <= warm["descriptors"] + limits.MAX_CONNECTIONS_PER_ADDRESS + SPARE_DESCRIPTORS
    assert is_so_within(lambda: victim.descriptors() <= warm["descriptors"] + 2)
    assert not counted or victim.counts()[counted] > before


@pytest.mark.parametrize("attack", ["connection-flood", "slow-loris"])
def test_who_is_connected_is_served_while_every_place_is_taken_from_many_addresses(play_libp2p, victim, warm, attack):
    async def scenario(world):
        honest = await world.peer()
        assert isinstance(await honest.transport.connect(victim.id, [victim.address]), Connected)
        with victim.attacked(attack, source="many") as most:
            await asyncio.sleep(SECONDS)
            await fetches(honest, victim)
        assert most["mib"] - warm["mib"] <= MAX_GROWTH_MIB
        assert most["descriptors"] <= warm["descriptors"] + limits.MAX_INBOUND + limits.MAX_PENDING + SPARE_DESCRIPTORS

    play_libp2p(scenario)


def test_silent_connections_from_everywhere_give_way_to_a_newcomer(play_libp2p, victim, warm):
    async def scenario(world):
        await asyncio.sleep(SECONDS)
        await honest_peer_gets_its_blob(world, victim)

    with victim.attacked("slow-loris", source="many"):
        play_libp2p(scenario)
    assert victim.counts()["connections-given-up"] > 0


def test_announcements_of_an_honest_peer_come_through_a_flood_of_them(play_libp2p, victim, warm):
    async def scenario(world):
        listener, honest = await world.peer(), await world.peer()
        said: list[
            bytes
        ] = []  # another each time, as of a peer that goes on: what was dropped once is known, and not heard again
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(Heard(opened(message), victim.id) in listener.events for message in said):
                for peer in (listener, honest):  # as the daemon dials again whom it lost, on a busy machine
                    if victim.id not in peer.transport.connected():
                        await peer.transport.connect(victim.id, [victim.address])
                said.append(honest.announcement(sequence=len(said) + 1))
                await honest.transport.publish(said[-1])
                await asyncio.sleep(0.5)

    with victim.attacked("announcement-flood"):
        play_libp2p(scenario)
