"""The transport port over libp2p: the asyncio side. Every answer of the trio side comes through the bridge.

    made -- start() --> up -- stop() --> stopped
                         |
                         +-- the trio side ends or dies --> `Down`, the last event; the caller makes another

It keeps no state of its own: what peers do is the node's, and what is read from here without a call (`accepted`,
`traffic`, `counts`) are values that the other thread replaces as a whole. `Down` says whether a stranger may have been
the cause; then a new back end comes at once, or whoever can kill one could keep a daemon off the network for minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from p2pfinetune.names import Digest, PeerId
from peerd.errors import TransportError
from peerd.net import limits
from peerd.net.exchanges import Answerer, Exchange
from peerd.net.libp2p.bridge import Bridge, BridgeClosed
from peerd.net.libp2p.host import LISTEN_HINT, parse_listen
from peerd.net.libp2p.interfaces import Interfaces
from peerd.net.libp2p.node import Libp2pNode
from peerd.net.transport import Connected, Down, Failed, Fetched, Met, PeerTraffic, TransportEvent
from peerd.wire.addresses import Address
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, Register, Sample
from peerd.wire.shelf import BlobShelf
from peerd.wire.traits import Traits

Answer = TypeVar("Answer")
STOP_SECONDS = 4.5  # of the five that a caller waits at most

log = logging.getLogger(__name__)


class Libp2pTransport:
    """A node of one network. Started once and stopped once; after `Down` the caller makes another."""

    def __init__(
        self,
        key: PeerKey,
        network: Digest,
        shelf: BlobShelf,
        *,
        listen: Sequence[str] = ("/ip4/0.0.0.0/tcp/0",),
        psk: str | None = None,
        lan: bool = False,
        given: Collection[Address] = (),
        interfaces: Interfaces | None = None,
        max_upload: int = 0,
        max_download: int = 0,
    ) -> None:
        """Rates are in bytes a second, 0 for no limit.

        `psk` is what `peerd.wire.keys.load_group_key` gives; `given`: addresses that a person named. Raises UsageError
        for a bad address.
        """
        self._inbox, self._ledger = limits.TransportEvents(), limits.TrafficLedger()
        self._node = Libp2pNode(
            key,
            network,
            shelf,
            listen=parse_listen(listen),
            psk=psk,
            lan=lan,
            given=given,
            interfaces=interfaces,
            inbox=self._inbox,
            ledger=self._ledger,
            max_upload=max_upload,
            max_download=max_download,
        )
        self._bridge = Bridge(self._node.run, name="libp2p")
        self._stopping = False

    @property
    def me(self) -> PeerId:
        return self._node.me

    @property
    def listening(self) -> tuple[str, ...]:
        """As `listen`, with the ports that were got: what the next one listens on if this one dies."""
        return self._node.listening

    @property
    def traits(self) -> Traits:
        """What is told to whoever is connected and is of another network."""
        return self._node.traits

    @traits.setter
    def traits(self, traits: Traits) -> None:
        self._node.traits = traits

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        """Answer an exchange from the start on."""
        self._node.answer(exchange, partial(self._bridge.call_back, answerer))

    async def start(self) -> tuple[str, ...]:
        """Listen; returns the addresses others can paste."""
        try:
            addresses: tuple[str, ...] = await self._bridge.start()
        except (OSError, BridgeClosed) as error:
            raise TransportError(f"libp2p cannot start: {error}", LISTEN_HINT) from error
        self._bridge.closed.add_done_callback(self._on_closed)
        return addresses

    async def stop(self) -> None:
        """Close every connection and stop; within 5 seconds."""
        self._stopping = True
        if hasattr(self._bridge, "closed") and not await self._bridge.stop(STOP_SECONDS):
            log.warning("libp2p did not stop in time and is left behind")
        self._inbox.close()

    def events(self) -> AsyncIterator[TransportEvent]:
        return self._inbox.read()

    def connected(self) -> frozenset[PeerId]:
        """Peers of our network with a live connection."""
        return self._node.accepted

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        return self._ledger.snapshot()

    def sent(self) -> dict[tuple[PeerId, Digest | None], int]:
        return self._ledger.sent()

    def counts(self) -> dict[str, int]:
        """What strangers did that came to nothing: peers of other networks, malformed frames, messages dropped."""
        return {**self._node.counts, **self._node.meetings.counts(), "heard-dropped": self._inbox.dropped}

    def met(self) -> dict[str, Met]:
        """Who was met and could not be joined, by kind."""
        return self._node.meetings.now()

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Connected | Failed:
        return await self._ask(self._node.connect, peer, tuple(addresses))

    async def disconnect(self, peer: PeerId) -> None:
        await self._ask(self._node.disconnect, peer)

    async def publish(self, message: bytes) -> Failed | None:
        if len(message) > MAX_ANNOUNCEMENT_BYTES:
            return Failed("oversize", f"{len(message)} bytes, at most {MAX_ANNOUNCEMENT_BYTES}")
        return await self._ask(self._node.publish, message)

    async def fetch(
        self, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float
    ) -> Fetched | Failed:
        arguments = (self.me, digest, size, tuple(holders), timeout_seconds)
        return await self._ask(self._node.fetch, *arguments)

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        return await self._ask(self._node.ask, peer, exchange, request)

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        """Tell a rendezvous node of us and hear of others."""
        return await self._ask(self._node.register, node, message)

    async def _ask(self, function: Callable[..., Awaitable[Answer]], *arguments: Any) -> Answer | Failed:
        try:
            return await self._bridge.call(function, *arguments)
        except BridgeClosed as error:
            return Failed("unreachable", str(error))
        except Exception as error:  # the library's border: what it throws unforeseen fails one request
            log.warning("libp2p failed at %s: %r", getattr(function, "__name__", function), error)
            return Failed("unreachable", f"{type(error).__name__}: {error}")

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        if self._stopping:
            return
        error = None if closed.cancelled() else closed.exception()
        reason = f"{type(error).__name__}: {error}" if error else "the network thread ended"
        self._inbox.put(Down(reason, of_a_stranger=error is not None and not of_the_machine(error)))


def of_the_machine(error: BaseException) -> bool:
    """Whether the node died of what the system refused it, and not of something that was said to it."""
    if isinstance(error, BaseExceptionGroup):
        return all(of_the_machine(inner) for inner in error.exceptions)
    return isinstance(error, OSError | MemoryError | TransportError)
