"""The trio side of the transport: one host with gossip, blobs, greetings and mDNS.

The asyncio thread reaches it through the bridge and the thread-safe values of `peerd.net.limits` only.

A connection says who is at the other end (Noise), and not whether it can be mixed with. That is the greeting's affair.
All protocols of a network have its digest in their names, so multistream-select answers the question by itself: a peer
that does not know `/peerd/DIGEST/hello/1` is of another network, and no message has to be agreed on first.

    connection up ---> greeting --- hello opened, by either side ---> accepted ---> last connection gone
                          |                                            |                |
                          | broken off, or GREETING_SECONDS over       | `Connected`    | `Disconnected`
                          |                                            v                v
                          | "not supported"                         told to the core, once each
                          v
                      asked why (`peerd.wire.traits`), counted, FAREWELL_SECONDS for its own answer, disconnected

Invariants: `accepted` holds only connected peers, and the core is told of exactly those that enter and leave it; one
greeting runs for a connection, and all who want its outcome wait for that one. A guest (a rendezvous node, while it is
asked) is never greeted, so it is nobody's neighbour.

Gossip goes on to others only if it is a validly signed announcement of this network; it is handed up all the same, so
that the core can count who passed it on.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio
from libp2p.abc import INotifee
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.net import limits
from peerd.net.exchanges import Answerer, Exchange
from peerd.net.libp2p import asking, mdns, rendezvous
from peerd.net.libp2p.blobs import BlobFetcher, BlobServer
from peerd.net.libp2p.dialling import dial, keep_what_is_heard, says_no
from peerd.net.libp2p.echo import Echo
from peerd.net.libp2p.frames import opened, read_message, write_message
from peerd.net.libp2p.gossip import GuardedPubsub
from peerd.net.libp2p.guard import NETWORK_ERRORS, Guard, attempt
from peerd.net.libp2p.host import bound, close, is_connected, local_host, make_host, reachable_at, running
from peerd.net.libp2p.interfaces import Interfaces, SystemInterfaces
from peerd.net.meetings import Meetings
from peerd.net.transport import RELAYED, Connected, Disconnected, Failed, Heard, Moved
from peerd.wire import traits
from peerd.wire.addresses import Address, dialable, parse_address
from peerd.wire.envelope import opened as open_envelope
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, Register, Sample, Why
from peerd.wire.places import is_relayed
from peerd.wire.shelf import BlobShelf
from peerd.wire.traits import Traits

GREETING_SECONDS = 10.0
MOVES_APART_SECONDS = 3.0  # those who are told of each must be able to follow; bootstrap nodes answer ten times in 30 s
FAREWELL_SECONDS = 0.5  # between a no and the end of the connection, so that the other end hears its own no
NOT_OURS = Failed("other-network", "is a peer of another network, or no peer at all")


def hello_protocol(network: Digest) -> str:
    """Only a peer of the same network answers to it."""
    return f"/peerd/{network}/hello/1"


def blob_protocol(network: Digest) -> str:
    return f"/peerd/{network}/blob/1"


def gossip_topic(network: Digest) -> str:
    return f"peerd/{network}/announcements/3"


@dataclass(slots=True)
class _Greeting:
    """Of one connection, asked once and waited for by all who want it."""

    over: trio.Event
    failed: Failed = NOT_OURS


class Libp2pNode:
    """Everything libp2p of one peer."""

    def __init__(
        self,
        key: PeerKey,
        network: Digest,
        shelf: BlobShelf,
        *,
        listen: Sequence[Address],
        psk: str | None,
        lan: bool,
        given: Collection[Address] = (),
        interfaces: Interfaces | None = None,
        inbox: limits.TransportEvents,
        ledger: limits.TrafficLedger,
        max_upload: int = 0,
        max_download: int = 0,
    ) -> None:
        """`given`: addresses that a person named; host names are resolved in these alone."""
        self.me, self.counts = key.peer_id, Counter[str]()
        self._guard = Guard(self._count)
        self.accepted: frozenset[PeerId] = frozenset()
        """Connected and of our network. Replaced, never changed, so that another thread may read it."""
        self.traits, self.meetings = Traits(), Meetings()
        self.listening: tuple[str, ...] = ()
        """Where it really listens, so that another thread may read it."""
        self._key, self._network, self._shelf = key, network, shelf
        self._listen, self._psk, self._lan = tuple(listen), psk, lan
        self._interfaces, self._moved = interfaces or SystemInterfaces(), trio.Event()
        self._addresses: tuple[str, ...] = ()
        self._given, self._inbox, self._ledger = frozenset(given), inbox, ledger
        self._max_upload, self._max_download = max_upload, max_download
        self._known: OrderedDict[PeerId, tuple[Address, ...]] = OrderedDict()
        """Where peers answered a dial of ours: all that a fetch may dial, besides who is connected."""
        self._greeted: dict[PeerId, _Greeting] = {}
        """One for each connected peer that is or was greeted; removed with the last connection."""
        self._guests: Counter[PeerId] = Counter()
        """Rendezvous nodes that are being asked, with how many questions."""
        self._exchanges: list[tuple[Exchange, Answerer]] = []

    async def run(self, stopping: trio.Event, *, task_status: Any) -> None:
        """Start, tell the addresses, and serve until asked to stop."""
        self._host = make_host(
            self._key,
            max_connections=limits.MAX_CONNECTIONS,
            max_inbound=limits.MAX_INBOUND,
            psk=self._psk,
            guard=self._guard,
        )
        keep_what_is_heard(self._host, self.meetings.note)
        self._make_gossip()
        self._make_blobs()
        self._echo = Echo(self._host, self._network, self._inbox.put, self._count)
        for exchange, answerer in self._exchanges:
            self._serve(exchange, answerer)
        self._host.set_stream_handler(hello_protocol(self._network), self._answer_hello)
        self._host.set_stream_handler(traits.PROTOCOL, self._answer_why)
        self._host.get_network().register_notifee(_Notifee(self._on_connected, self._on_disconnected))
        async with (
            running(self._host, self._listen, self._interfaces) as self._addresses,
            background_trio_service(self._pubsub),
            background_trio_service(self._pubsub.router),
            trio.open_nursery() as self._nursery,
        ):
            await self._pubsub.wait_until_ready()
            subscription = await self._pubsub.subscribe(gossip_topic(self._network))
            self._keep("memory", self._host.get_peerstore().start_cleanup_task, 60)
            if self._lan:
                self._keep("mdns", self._keep_lan)
            self._keep("addresses", self._interfaces.watch, self._look_at_addresses)
            self._keep("gossip-drain", _drain, subscription)
            self._keep("gossip-check", self._keep_gossip)
            self.listening = bound(self._host, self._listen)
            self._keep("echo", self._echo.keep_asking, lambda: self.accepted)
            task_status.started(self._addresses)
            await stopping.wait()
            await close(self._host)  # before anything is cancelled: sockets that are half closed stay open for ever
            self._nursery.cancel_scope.cancel()

    def _keep(self, task: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        self._nursery.start_soon(self._guard.keep, task, function, *arguments, name=task)

    async def _look_at_addresses(self) -> None:
        """Tell of those that came or went; what was connected from one that is gone is closed: nobody answers it."""
        now = reachable_at(self._host, self._interfaces)
        if now == self._addresses:
            return
        self._addresses = now
        self._inbox.put(Moved(now))
        moved, self._moved = self._moved, trio.Event()
        moved.set()
        for connection in self._host.get_network().get_connections():
            here = local_host(connection)
            if here is not None and not self._interfaces.has(here):
                with trio.move_on_after(1):
                    await attempt(connection.close)
        await trio.sleep(MOVES_APART_SECONDS)

    async def _keep_lan(self) -> None:
        """Announced anew from wherever this machine is."""
        while True:
            moved = self._moved
            found = [address for address in map(parse_address, self._addresses) if isinstance(address, Address)]
            async with trio.open_nursery() as here:
                arguments = (self.me, self._network, found, self._inbox.put, self._guard, self.meetings.note)
                here.start_soon(self._guard.keep, "mdns", mdns.announce_and_listen, *arguments)
                await moved.wait()
                here.cancel_scope.cancel()

    async def _keep_gossip(self) -> None:
        """The library gives up on a peer's gossip stream after some errors, and never speaks to it again."""
        while True:
            await trio.sleep(limits.GOSSIP_CHECK_SECONDS)
            for peer in self.accepted:
                await attempt(self._pubsub.ensure_peer_stream, ID.from_string(peer), 0.0)

    async def connect(self, peer: PeerId, texts: Sequence[str]) -> Connected | Failed:
        """Dial every address in turn, then make sure it is a peer of our network."""
        if peer == self.me:
            return Failed("refused", "that is this peer itself")
        addresses = dialable(texts, peer, self._given)
        if any(map(is_relayed, texts)):
            self._count("addresses-relayed")
            if not addresses and not is_connected(self._host, peer):
                return RELAYED
        try:
            with trio.fail_after(limits.CONNECT_SECONDS):
                return await self._connect(peer, addresses)
        except trio.TooSlowError:
            return Failed("timeout", f"does not answer within {limits.CONNECT_SECONDS:g} s", address=_first(addresses))

    async def disconnect(self, peer: PeerId) -> None:
        with trio.move_on_after(2):
            await self._host.disconnect(ID.from_string(peer))

    async def publish(self, message: bytes) -> None:
        """Gossip. A message repeated byte for byte is a new one: its id is sender and counter."""
        self._echo.said = message
        await self._pubsub.publish(gossip_topic(self._network), message)

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        """Answer an exchange once it runs; `answerer` is awaited in trio."""
        self._exchanges.append((exchange, answerer))

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        """As `Transport.ask`. A stream to somebody who is not connected would dial it, be it while this node ends."""
        if not is_connected(self._host, peer):
            return Failed("unreachable", "not connected")
        answer = await asking.ask(self._host, peer, exchange, request)
        if isinstance(answer, bytes):
            self._ledger.add(peer, bytes_in=len(answer), bytes_out=len(request))
        return answer

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        """Ask a rendezvous node; the connection is closed again, since that node is no neighbour."""
        peer = node.peer or PeerId("")
        self._guests[peer] += 1
        try:
            if node.peer is not None:
                self._pubsub.blacklisted_peers.add(ID.from_string(peer))  # it speaks no gossip: do not keep asking
            told = msgspec.structs.replace(message, why=self.traits.told_by(peer))
            return await rendezvous.ask(self._host, node, told)
        finally:
            with trio.CancelScope(shield=True):
                await self.disconnect(peer)
            self._guests[peer] -= 1
            if not self._guests[peer]:
                del self._guests[peer]

    @property
    def fetch(self) -> Callable[..., Awaitable[Any]]:
        return self._fetcher.fetch

    async def _connect(self, peer: PeerId, addresses: Sequence[Address]) -> Connected | Failed:
        answered: Address | None = None
        if not is_connected(self._host, peer):
            outcome = await dial(self._host, peer, addresses, self._given)
            if isinstance(outcome, Failed):
                self.meetings.note(outcome.differs)
                return outcome
            answered = outcome
            self._remember(peer, (answered,))
        if (failed := await self._greeting(peer)) is not None:
            return msgspec.structs.replace(failed, address=str(answered) if answered else _first(addresses))
        return Connected(peer, str(answered.of(peer)) if answered else self._address_of(peer))

    def _make_gossip(self) -> None:
        topic = gossip_topic(self._network)
        self._pubsub = GuardedPubsub(self._host, topic, traffic=self._count_bytes, guard=self._guard)
        self._pubsub.set_topic_validator(topic, self._hear, is_async_validator=False)

    def _serve(self, exchange: Exchange, answerer: Answerer) -> None:
        def sent(peer: PeerId, bytes_in: int, bytes_out: int) -> None:
            self._ledger.add(peer, bytes_in=bytes_in, bytes_out=bytes_out)

        answering = asking.Answering(
            exchange, answerer, self._count, is_neighbour=lambda peer: peer in self.accepted, sent=sent
        )
        self._host.set_stream_handler(exchange.protocol, answering.serve)

    def _make_blobs(self) -> None:
        protocol = blob_protocol(self._network)
        server = BlobServer(self._shelf, self._ledger, self._count, self._max_upload)
        self._host.set_stream_handler(protocol, server.serve)
        self._fetcher = BlobFetcher(
            self._host, protocol, self._shelf, reach=self._reach, ledger=self._ledger, max_rate=self._max_download
        )

    def _hear(self, forwarder: Any, message: Any) -> bool:
        """Whether a message goes on to others; it is handed up either way. Called once a message, and never raises."""
        data, via = bytes(message.data), PeerId(str(forwarder))
        if via == self.me:
            return True
        if len(data) > MAX_ANNOUNCEMENT_BYTES:
            self._count("messages-oversize")
            return False
        envelope = open_envelope(data)
        self._inbox.put(Heard(envelope, via))
        if bytes(message.from_id) == self._host.get_id().to_bytes():
            return False  # my own, come back; or that of another with my key, which is for the core to say
        said = limits.announced_here(envelope, self._network)
        if said is not None and (said.peer == via or said.peer in self.accepted):
            self._echo.heard(said, data)
        return said is not None

    async def _reach(self, peer: PeerId) -> bool:
        """Where it has answered before: a fetch never knocks at what somebody only claimed."""
        if is_connected(self._host, peer):
            return True
        outcome = await self.connect(peer, [str(address) for address in self._known.get(peer, ())])
        return isinstance(outcome, Connected)

    def _remember(self, peer: PeerId, addresses: tuple[Address, ...]) -> None:
        """Where it answered."""
        self._known.pop(peer, None)
        self._known[peer] = addresses
        if len(self._known) > limits.MAX_KNOWN_PEERS:
            self._known.popitem(last=False)

    async def _on_connected(self, peer: PeerId) -> None:
        if peer not in self._guests and peer not in self._greeted:
            self._nursery.start_soon(self._guard.run, "greeting", ID.from_string(peer), self._greeting, peer)

    async def _on_disconnected(self, peer: PeerId) -> None:
        if is_connected(self._host, peer):
            return
        self._greeted.pop(peer, None)
        if peer in self.accepted:
            self.accepted -= {peer}
            self._inbox.put(Disconnected(peer))

    async def _greeting(self, peer: PeerId) -> Failed | None:
        """None if a connected peer is of our network; one that is not is disconnected. Asked once a connection."""
        if (asked := self._greeted.get(peer)) is not None:
            await asked.over.wait()
            return None if peer in self.accepted else asked.failed
        asked = self._greeted[peer] = _Greeting(trio.Event())
        asked.failed = Failed(
            "timeout", f"connects, and does not say within {GREETING_SECONDS:g} s of which network it is"
        )
        try:
            with trio.move_on_after(GREETING_SECONDS):
                asked.failed = await self._greet(peer)
            if peer in self.accepted:
                return None
            await self.disconnect(peer)  # before anybody hears of it, and dials again what would be closed with it
            self._greeted.pop(peer, None)
            return asked.failed
        finally:
            asked.over.set()

    async def _greet(self, peer: PeerId) -> Failed:
        """Why it is none of ours, if it is not accepted by the end."""
        try:
            async with opened(self._host, peer, hello_protocol(self._network)):
                self._accept(peer)
        except StreamFailure as error:
            self._count("peers-of-another-network" if says_no(error) else "greetings-broken")
            if says_no(error):
                differs = await self._ask_why(peer)
                self.meetings.note(differs)
                await trio.sleep(FAREWELL_SECONDS)
                return msgspec.structs.replace(NOT_OURS, differs=differs)
        except NETWORK_ERRORS:
            self._count("greetings-broken")
        return Failed("unreachable", "connects, and breaks off the greeting")

    async def _ask_why(self, peer: PeerId) -> tuple[str, ...]:
        """In what a peer of another network differs, by what it says itself."""
        try:
            async with opened(self._host, peer, traits.PROTOCOL) as stream:
                told = await read_message(stream, Why, max_bytes=traits.MAX_WHY_BYTES)
        except StreamFailure as error:
            return ("version",) if says_no(error) else ("network",)
        except NETWORK_ERRORS:
            return ("network",)
        return ("version",) if isinstance(told, Refusal) else self.traits.differences(told, peer)

    async def _answer_why(self, stream: Any) -> None:
        """The same few bytes for whoever asks."""
        await write_message(stream, self.traits.told_by(self.me), max_bytes=traits.MAX_WHY_BYTES)
        await stream.close()

    async def _answer_hello(self, stream: Any) -> None:
        """Whoever knows the network's digest is of it; opening this stream says so."""
        self._accept(PeerId(str(stream.muxed_conn.peer_id)))
        await stream.close()

    def _accept(self, peer: PeerId) -> None:
        if peer not in self.accepted and is_connected(self._host, peer):
            self.accepted |= {peer}
            self._inbox.put(Connected(peer, self._address_of(peer)))

    def _address_of(self, peer: PeerId) -> str:
        """Where it was dialled, or else where it comes from, which nobody can dial."""
        if known := self._known.get(peer):
            return str(known[0])
        for connection in self._host.get_network().get_connections(ID.from_string(peer)):
            for address in connection.get_transport_addresses():
                return str(address)
        return ""

    def _count(self, what: str) -> None:
        self.counts[what] += 1

    def _count_bytes(self, peer: ID, bytes_in: int, bytes_out: int) -> None:
        self._ledger.add(PeerId(str(peer)), bytes_in=bytes_in, bytes_out=bytes_out)


def _first(addresses: Sequence[Address]) -> str:
    return str(addresses[0]) if addresses else ""


async def _drain(subscription: Any) -> None:
    """Messages were taken by the validator already, which knows who passed them on."""
    async for _ in subscription:
        pass


class _Notifee(INotifee):  # type: ignore[misc]  # libp2p is untyped here
    """Connections come and go; both callbacks must be quick."""

    def __init__(
        self, on_connected: Callable[[PeerId], Awaitable[None]], on_disconnected: Callable[[PeerId], Awaitable[None]]
    ) -> None:
        self._on_connected, self._on_disconnected = on_connected, on_disconnected

    async def connected(self, network: Any, conn: Any) -> None:
        await self._on_connected(PeerId(str(conn.muxed_conn.peer_id)))

    async def disconnected(self, network: Any, conn: Any) -> None:
        await self._on_disconnected(PeerId(str(conn.muxed_conn.peer_id)))

    async def opened_stream(self, network: Any, stream: Any) -> None:
        pass

    async def closed_stream(self, network: Any, stream: Any) -> None:
        pass

    async def listen(self, network: Any, multiaddr: Any) -> None:
        pass

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        pass
