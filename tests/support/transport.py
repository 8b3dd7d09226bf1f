"""A back end whose story is written by a test: what keeps one running is tested on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from p2pfinetune.names import Digest, PeerId
from peerd.errors import TransportError
from peerd.net.exchanges import Answerer, Asked, Exchange
from peerd.net.transport import Failed, PeerTraffic, TransportEvent
from peerd.wire.addresses import Address
from peerd.wire.messages import Register, Sample
from peerd.wire.traits import Traits

BOB = PeerId("12D3KooWbob")


class FakeTransport:
    """Plays a fixed story, then waits."""

    listening: tuple[str, ...] = ()
    traits: Traits
    answerer: Answerer

    def __init__(self, *story: TransportEvent, fails: bool = False) -> None:
        self.story, self.fails, self.stopped = story, fails, asyncio.Event()

    async def start(self) -> tuple[str, ...]:
        if self.fails:
            raise TransportError("the port is taken")
        return ("/memory/me",)

    async def stop(self) -> None:
        self.stopped.set()

    async def events(self) -> AsyncIterator[TransportEvent]:
        for event in self.story:
            yield event
        await self.stopped.wait()

    def sent(self) -> dict[tuple[PeerId, Digest | None], int]:
        return {}

    def counts(self) -> dict[str, int]:
        return {}

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        return {BOB: PeerTraffic(10, 1)}

    def connected(self) -> frozenset[PeerId]:
        return frozenset({BOB})

    async def publish(self, message: bytes) -> Failed | None:
        return None

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        self.answerer = answerer

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        answer = await self.answerer(Asked(peer, "?", request))
        return Failed("refused", "no answer") if answer is None else answer

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        return Sample(status="ok")
