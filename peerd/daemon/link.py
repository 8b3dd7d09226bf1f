"""Keeps one transport running, whatever happens to it, and tells the shell what it sees as events.

A back end that dies of what the machine does is started again with growing pauses; one that dies of what a stranger
said, at once, and that is counted: else a connection a minute would keep a daemon away for good. It listens where the
one before it did, port included. Meanwhile everything asked of the network fails as a value. Only a first start that
cannot work (a port that is taken, say) is an error that ends the daemon. A transport event that cannot be told is left
out: it takes down neither the back end nor anybody's connection.

    starting --- listens ---> up --- stop() -----------------------------> over
       ^                      |
       |                      | Down: each connected peer is told to the core as disconnected
       +------- pause --------+   of the machine: doubling; of a stranger: one second since the last start at least
       |
       +-- a later start fails: the next one takes any port

What has to outlive a back end is kept here: bytes by peer, bytes that nobody asked for yet, counts of what strangers
tried. Sums over all back ends are what people see, so a restart of the network sets no figure back.

Signatures are verified where the bytes arrive, once; the core gets an announcement or the word of a refusal.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.core.events import (
    AddressesChanged,
    AnnouncementHeard,
    AnyEvent,
    MessageRefused,
    PeerConnected,
    PeerDisconnected,
    PeerFound,
)
from peerd.errors import TransportError
from peerd.machine.boundary import Failures, Guarded, lasting
from peerd.net.exchanges import Answerer, Asked, Exchange
from peerd.net.transport import (
    Connected,
    Disconnected,
    Down,
    Failed,
    Fetched,
    Found,
    Heard,
    Met,
    Moved,
    PeerTraffic,
    Transport,
    TransportEvent,
)
from peerd.pacing import Backoff
from peerd.wire.addresses import Address
from peerd.wire.messages import Register, Sample
from peerd.wire.traits import Traits

Tell = Callable[[AnyEvent], Awaitable[None]]
Clock = Callable[[], float]
Sent = dict[tuple[PeerId, Digest | None], int]

DOWN = Failed("unreachable", "the network is being started again")
STEADY_SECONDS = 60.0  # a back end that ran so long is not counted as failing again and again
AGAIN_SECONDS = 1.0  # between two starts at least, if the one before died of a stranger
ENDED = "network-ended"  # how such a death is counted
MAX_TRAFFIC_PEERS = 1024  # peers of earlier back ends whose bytes are still shown apart

_log = logging.getLogger("peerd.network")


class SupervisedTransport:
    """The port to other peers, as the rest of the daemon sees it."""

    def __init__(
        self,
        make: Callable[[tuple[str, ...]], Transport],
        tell: Tell,
        *,
        clock: Clock,
        unix: Clock,
        pauses: Backoff | None = None,
        failures: Failures | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        announce: tuple[str, ...] = (),
    ) -> None:
        """`make` gets where the one before listened, nothing the first time. `announce` as a person said, told first.

        `clock` counts monotonic seconds; `unix` is what people set, and peers compare.
        """
        self._make, self._tell, self._clock, self._unix = make, tell, clock, unix
        self._pauses, self._failures, self._sleep = pauses or Backoff(), failures or Failures(clock), sleep
        self._transport: Transport | None = None  # None while it is down: everything asked then is `DOWN`
        self._before: dict[PeerId, PeerTraffic] = {}  # bytes of back ends that died
        self._unasked: Sent = {}  # theirs that are not in the book yet
        self._turned_away = Counter[str]()  # theirs, by kind
        self._stopping, self._died = False, Down("it ended")
        self._listening: tuple[str, ...] = ()
        self._exchanges: list[tuple[Exchange, Answerer]] = []
        self._moved = asyncio.Event()
        self._has_started, self._announce = False, announce
        self.traits = Traits()
        """What is told to peers of other networks; set before it runs."""
        self.addresses: tuple[str, ...] = ()
        """Where others can reach this peer now; none if the machine has no address."""
        self.trouble = ""
        """Why there is no network at the moment; empty if there is."""

    async def run(self, started: Callable[[], None]) -> None:
        """Until stopped. Raises TransportError if the very first start fails."""
        deaths = 0
        while True:
            began = self._clock()
            died = await self._live(started)
            if self._stopping:
                return
            self.trouble = died.reason
            lived = self._clock() - began
            if died.of_a_stranger:
                self._turned_away[ENDED] += 1
                pause = max(0.0, AGAIN_SECONDS - lived)
            else:
                deaths = 1 if lived > STEADY_SECONDS else deaths + 1
                pause = self._pauses.after(deaths)
            _log.warning("the network is down (%s); it is started again in %.0f s", self.trouble, pause)
            await self._sleep(pause)

    async def stop(self) -> None:
        """Close every connection, for good."""
        self._stopping = True
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.stop()

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Connected | Failed:
        return DOWN if self._transport is None else await self._transport.connect(peer, addresses)

    async def disconnect(self, peer: PeerId) -> None:
        if self._transport is not None:
            await self._transport.disconnect(peer)

    async def publish(self, message: bytes) -> Failed | None:
        return DOWN if self._transport is None else await self._transport.publish(message)

    async def fetch(
        self, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float
    ) -> Fetched | Failed:
        if self._transport is None:
            return DOWN
        return await self._transport.fetch(digest, size, holders, timeout_seconds)

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        """Answer an exchange from the next start on, whatever back end runs then. What fails in it is recorded."""

        async def guarded(asked: Asked) -> bytes | None:
            with Guarded(f"answer to {exchange.protocol}", self._failures):
                return await answerer(asked)
            return None

        self._exchanges.append((exchange, guarded))

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        return DOWN if self._transport is None else await self._transport.ask(peer, exchange, request)

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        return DOWN if self._transport is None else await self._transport.register(node, message)

    async def rest(self, seconds: float) -> bool:
        """So long, or until the own addresses have changed, which is told."""
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def connected(self) -> frozenset[PeerId]:
        """Peers with a live connection."""
        return frozenset() if self._transport is None else self._transport.connected()

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        """Bytes by peer since the daemon started, back ends that died included."""
        return dict(self._before) if self._transport is None else added(self._before, self._transport.traffic())

    def sent(self) -> Sent:
        """Bytes that went out since this was last asked, back ends that died included."""
        sent, self._unasked = self._unasked, {}
        return sent if self._transport is None else summed(sent, self._transport.sent())

    def turned_away(self) -> dict[str, int]:
        """What strangers tried that came to nothing, by kind, since the daemon started."""
        counts = {} if self._transport is None else self._transport.counts()
        return dict(sorted((self._turned_away + Counter(counts)).items()))

    def met(self) -> dict[str, Met]:
        """Who was met and could not be joined, by kind; of this back end."""
        return {} if self._transport is None else self._transport.met()

    async def _live(self, started: Callable[[], None]) -> Down:
        """One back end from start to death; returns why it died."""
        transport, is_first = self._make(self._listening), not self._has_started
        transport.traits = self.traits
        for exchange, answerer in self._exchanges:
            transport.answer(exchange, answerer)
        try:
            addresses = await transport.start()
        except TransportError as error:
            if is_first:
                raise
            self._listening = ()  # somebody else may have that port now: any other is better than none
            return Down(str(error))
        addresses = self._told(addresses)
        self._transport, self.trouble = transport, ""
        self._listening = transport.listening
        if is_first:
            self.addresses, self._has_started = addresses, True
            started()
        try:
            await self._move(addresses)
            return await self._pump(transport)
        finally:
            self._unasked = summed(self._unasked, transport.sent())
            self._turned_away += Counter(transport.counts())
            self._before = dict(list(added(self._before, transport.traffic()).items())[-MAX_TRAFFIC_PEERS:])
            if self._transport is not None:  # not stopped by us
                self._transport = None
                await transport.stop()

    def _told(self, addresses: tuple[str, ...]) -> tuple[str, ...]:
        """All that others hear of: what a person said comes first, since a message holds so many."""
        return tuple(dict.fromkeys((*self._announce, *addresses)))

    async def _move(self, addresses: tuple[str, ...]) -> None:
        """The core hears of it if there were other addresses before."""
        if addresses == self.addresses:
            return
        self.addresses = addresses
        _log.info("reached at other addresses now", extra={"addresses": ", ".join(addresses) or "none"})
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        await self._tell(AddressesChanged(at=self._clock()))

    async def _pump(self, transport: Transport) -> Down:
        linked: set[PeerId] = set()
        self._died = Down("it ended")
        await lasting("network events", lambda: self._read(transport, linked), self._failures)
        for peer in sorted(linked):
            await self._tell(PeerDisconnected(at=self._clock(), peer=peer))
        return self._died

    async def _read(self, transport: Transport, linked: set[PeerId]) -> None:
        """Tell of everything that happens, until the back end is down."""
        async for transport_event in transport.events():
            match transport_event:
                case Connected(peer):
                    linked.add(peer)
                case Disconnected(peer):
                    linked.discard(peer)
                case Moved(addresses):
                    await self._move(self._told(addresses))
                case Down():
                    self._died = transport_event
                    return
            with Guarded("network event", self._failures):
                if (event := self._event(transport_event)) is not None:
                    await self._tell(event)

    def _event(self, transport_event: TransportEvent) -> AnyEvent | None:
        at = self._clock()
        match transport_event:
            case Connected(peer, address):
                return PeerConnected(at=at, peer=peer, address=address)
            case Disconnected(peer):
                return PeerDisconnected(at=at, peer=peer)
            case Found(peer, addresses, how):
                return PeerFound(at=at, peer=peer, addresses=addresses, how=how)
            case Heard(envelope, via):
                said = envelope.said
                if isinstance(said, Refusal):
                    return MessageRefused(at=at, peer=via, reason=said.reason)
                return AnnouncementHeard(at=at, announcement=said, via=via, age_seconds=self._unix() - said.time)
            case Moved() | Down():
                return None


def added(some: dict[PeerId, PeerTraffic], more: dict[PeerId, PeerTraffic]) -> dict[PeerId, PeerTraffic]:
    """Bytes of both, by peer."""
    none = PeerTraffic()
    return {
        peer: PeerTraffic(
            some.get(peer, none).bytes_in + more.get(peer, none).bytes_in,
            some.get(peer, none).bytes_out + more.get(peer, none).bytes_out,
        )
        for peer in some.keys() | more.keys()
    }


def summed(some: Sent, more: Sent) -> Sent:
    """Bytes of both, by peer and blob."""
    return dict(Counter(some) + Counter(more))
