"""Worlds in which the transport contract is played: the in-memory network, and real libp2p on loopback."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from p2pfinetune.names import Digest, Round
from peerd.testing.network import MemoryNetwork
from peerd.wire.envelope import seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement
from tests.support.shelves import DictShelf

NETWORK = Digest("a" * 64)
PATIENCE_SECONDS = 60.0  # only a broken back end waits so long


class Peer:
    """A started transport whose events are written down."""

    def __init__(self, key: PeerKey, transport: Any, shelf: DictShelf) -> None:
        self.key, self.transport, self.shelf = key, transport, shelf
        self.id = key.peer_id
        self.addresses: tuple[str, ...] = ()
        self.events: list[Any] = []
        self._news = asyncio.Event()

    async def write_down(self) -> None:
        async for event in self.transport.events():
            self.events.append(event)
            self._news.set()

    def saw(self, *wanted: object) -> bool:
        return all(any(_fits(want, seen) for seen in self.events) for want in wanted)

    async def until(self, *wanted: object, count: int = 1) -> None:
        """Until every one of these (a value, or a type) has happened `count` times."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(sum(_fits(want, seen) for seen in self.events) < count for want in wanted):
                self._news.clear()
                await self._news.wait()

    def announcement(self, blob: bytes = b"blob", sequence: int = 1) -> bytes:
        digest = self.shelf.put(blob)
        return seal(
            self.key,
            Announcement(
                network=NETWORK,
                peer=self.id,
                epoch=1,
                sequence=sequence,
                round=Round(1),
                codec="bf16",
                size=len(blob),
                blob=digest,
                time=1,
            ),
        )

    async def connect(self, other: Peer) -> Any:
        return await self.transport.connect(other.id, other.addresses)


def _fits(want: object, seen: object) -> bool:
    return isinstance(seen, want) if isinstance(want, type) else seen == want


class World:
    """Makes and stops peers of one kind of transport."""

    def __init__(self, kind: str, tasks: asyncio.TaskGroup) -> None:
        self.kind, self._tasks = kind, tasks
        self.wires = MemoryNetwork(chunk_bytes=1000)
        self.peers: list[Peer] = []

    async def peer(self, network: str = NETWORK, **options: Any) -> Peer:
        key = options.pop("key", None) or PeerKey(bytes([len(self.peers) + 1]) * 32)
        shelf, traits = options.pop("shelf", None) or DictShelf(), options.pop("traits", None)
        answers = options.pop("answers", ())
        if self.kind == "memory":
            transport: Any = self.wires.node(key.peer_id, shelf, Digest(network))
        else:
            from peerd.net.libp2p.transport import Libp2pTransport

            listen = options.pop("listen", ("/ip4/127.0.0.1/tcp/0",))
            transport = Libp2pTransport(key, Digest(network), shelf, listen=listen, **options)
        if traits is not None:
            transport.traits = traits
        for exchange, answerer in answers:
            transport.answer(exchange, answerer)
        peer = Peer(key, transport, shelf)
        self.peers.append(peer)
        peer.addresses = await transport.start()
        self._tasks.create_task(peer.write_down(), name=f"events of {len(self.peers)}")
        return peer

    async def linked(self, count: int) -> list[Peer]:
        """Peers in a line, each connected to the next."""
        peers = [await self.peer() for _ in range(count)]
        for one, other in itertools.pairwise(peers):
            await one.connect(other)
            await other.until(type(await one.connect(other)))
        return peers


@asynccontextmanager
async def opened_world(kind: str) -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        world = World(kind, tasks)
        try:
            yield world
        finally:
            for peer in world.peers:
                await peer.transport.stop()


Scenario = Callable[[World], Coroutine[Any, Any, None]]


@pytest.fixture(params=["memory", "libp2p"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Play a scenario in a world of each kind."""
    return lambda scenario: play_in(request.param, scenario)


@pytest.fixture
def play_libp2p() -> Callable[[Scenario], None]:
    """Play a scenario over real libp2p only."""
    return lambda scenario: play_in("libp2p", scenario)


def play_in(kind: str, scenario: Scenario) -> None:
    """On uvloop, as the daemon does."""

    async def main() -> None:
        async with opened_world(kind) as world:
            await scenario(world)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
