"""A network inside one process, for tests and simulations: the verified fake of the transport port.

It passes the contract suite of the real back end. Faults come from a seeded plan; nothing sleeps, and time passes only
through the running loop's own clock (`call_later`), so a virtual clock drives it.

What it keeps of the real one: order and loss of events, gossip that is flooded once by id, transfers that break off and
go on, bounds and their refusals, the words of `Failed`. What it leaves out: bytes on a wire, handshakes, time that
anything takes unless a fault says so. A scenario that is run again gives
the same again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import msgspec

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.errors import StoreError
from peerd.machine.boundary import Failures, Guarded
from peerd.net import exchanges, limits, rendezvous
from peerd.net.attempts import FetchPlan
from peerd.net.exchanges import Answerer, Asked, Exchange
from peerd.net.meetings import Meetings
from peerd.net.transport import (
    RELAYED,
    Connected,
    Disconnected,
    Down,
    Failed,
    Fetched,
    Heard,
    Met,
    PeerTraffic,
    TransportEvent,
)
from peerd.wire.addresses import Address
from peerd.wire.envelope import opened
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, Register, Sample
from peerd.wire.places import is_relayed
from peerd.wire.shelf import BlobShelf
from peerd.wire.traits import Traits

_MAX_REMEMBERED = 4096  # message ids a node has seen
_BUSY = Failed("busy", "ends without an answer")
_STOPPED = Failed("unreachable", "the network is stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong on each hop: probabilities, and the longest delay in seconds of the loop's clock."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    latency_seconds: float = 0.0
    cut: float = 0.0
    """That a transfer breaks off before a chunk."""


@dataclass(frozen=True, slots=True)
class _Gossip:
    id: tuple[PeerId, int]
    message: bytes


class MemoryNetwork:
    """The wires between nodes."""

    def __init__(self, *, seed: int = 0, faults: Faults | None = None, chunk_bytes: int = limits.CHUNK_BYTES) -> None:
        self.faults = faults or Faults()
        self.chunk_bytes = chunk_bytes
        self.random = random.Random(seed)
        self.nodes: dict[PeerId, MemoryTransport] = {}
        self.stalled: set[PeerId] = set()
        """Nodes that take requests for blobs and never answer."""
        self._held: dict[tuple[PeerId, PeerId], _Gossip] = {}

    def node(self, me: PeerId, shelf: BlobShelf, network: Digest) -> MemoryTransport:
        """A node that is not started yet; a later one of the same id takes the place of a stopped one."""
        return MemoryTransport(self, me, shelf, network)

    def crash(self, peer: PeerId) -> None:
        """As a killed process looks to others, and a dead back end to its own daemon."""
        node = self.nodes.pop(peer)
        node.sever()
        node.inbox.put(Down("crashed"))

    def carry(self, sender: PeerId, receiver: PeerId, gossip: _Gossip) -> None:
        """Deliver over one hop, as the faults will have it."""
        dice, faults = self.random, self.faults
        if dice.random() < faults.loss:
            return
        copies = [gossip] * (2 if dice.random() < faults.duplication else 1)
        if dice.random() < faults.reordering and (sender, receiver) not in self._held:
            self._held[sender, receiver] = gossip
            copies = copies[1:]
        elif (overtaken := self._held.pop((sender, receiver), None)) is not None:
            copies.append(overtaken)
        for copy in copies:
            self._deliver_later(sender, receiver, copy, dice.uniform(0.0, faults.latency_seconds))

    def _deliver_later(self, sender: PeerId, receiver: PeerId, gossip: _Gossip, delay: float) -> None:
        def arrive() -> None:
            if (node := self.nodes.get(receiver)) is not None and sender in node.links:
                node.receive(sender, gossip)

        if delay > 0.0:
            asyncio.get_running_loop().call_later(delay, arrive)
        else:
            arrive()


class MemoryTransport:
    """A node of a `MemoryNetwork`."""

    def __init__(self, wires: MemoryNetwork, me: PeerId, shelf: BlobShelf, network: Digest) -> None:
        self.shelf, self.network = shelf, network
        self.inbox, self.meetings = limits.TransportEvents(), Meetings()
        self.traits = Traits()
        self.links: dict[PeerId, str] = {}
        self.uploads: set[PeerId] = set()
        self.max_uploads = limits.MAX_UPLOADS
        self._wires, self._me = wires, me
        self.address = f"/memory/{me}/p2p/{me}"
        self.ledger, self._counts = limits.TrafficLedger(), Counter[str]()
        self._exchanges: dict[str, tuple[Exchange, Answerer]] = {}
        self._asking: dict[str, set[PeerId]] = {}
        self._failures = Failures(lambda: 0.0)
        self._seen: OrderedDict[tuple[PeerId, int], None] = OrderedDict()
        self._published = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # gone with their holders

    @property
    def me(self) -> PeerId:
        return self._me

    @property
    def listening(self) -> tuple[str, ...]:
        return (self.address,)

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        """Answer an exchange from the start on."""
        self._exchanges[exchange.protocol] = exchange, answerer

    async def start(self) -> tuple[str, ...]:
        self._wires.nodes[self._me] = self
        return (self.address,)

    async def stop(self) -> None:
        if self._wires.nodes.get(self._me) is self:
            del self._wires.nodes[self._me]
        self.sever()
        self.inbox.close()

    def events(self) -> AsyncIterator[TransportEvent]:
        """Everything that happens, in order, until stopped."""
        return self.inbox.read()

    def connected(self) -> frozenset[PeerId]:
        """Peers with a live connection."""
        return frozenset(self.links)

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        return self.ledger.snapshot()

    def sent(self) -> dict[tuple[PeerId, Digest | None], int]:
        """Bytes that went out since this was last asked."""
        return self.ledger.sent()

    def counts(self) -> dict[str, int]:
        return {**self._counts, **self.meetings.counts(), "heard-dropped": self.inbox.dropped}

    def met(self) -> dict[str, Met]:
        """Who was met and could not be joined, by kind."""
        return self.meetings.now()

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Connected | Failed:
        """Connect to a node that listens at one of the addresses."""
        if not self._is_up():
            return _STOPPED
        if peer in self.links:
            return Connected(peer, self.links[peer])
        if peer == self._me:
            return Failed("refused", "that is this peer itself")
        if any(map(is_relayed, addresses)):
            self._counts["addresses-relayed"] += 1
            if all(map(is_relayed, addresses)):
                return RELAYED
        other = self._wires.nodes.get(peer)
        if other is None or not any(address.startswith(f"/memory/{peer}") for address in addresses):
            return Failed("unreachable", "no address answers")
        if other.network != self.network:
            differs = self.traits.differences(other.traits.told_by(peer), peer)
            for one in (self, other):
                one.meetings.note(differs)
            return Failed("other-network", "is a peer of another network", differs=differs)
        self.link(peer, other.address)
        other.link(self._me, self.address)
        return Connected(peer, other.address)

    async def disconnect(self, peer: PeerId) -> None:
        self.unlink(peer)

    async def publish(self, message: bytes) -> Failed | None:
        if len(message) > MAX_ANNOUNCEMENT_BYTES:
            return Failed("oversize", f"{len(message)} bytes, at most {MAX_ANNOUNCEMENT_BYTES}")
        if not self._is_up():
            return _STOPPED
        self._published += 1
        self._spread(_Gossip((self._me, self._published), message), {self._me})
        return None

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        """One question to a linked node."""
        other = self._wires.nodes.get(peer)
        if not self._is_up():
            return _STOPPED
        if other is None or peer not in self.links:
            return Failed("unreachable", "not connected")
        answer = await self._ask(other, exchange, request)
        if isinstance(answer, bytes):
            self.ledger.add(peer, bytes_in=len(answer), bytes_out=len(request))
            other.ledger.add(self._me, bytes_in=len(request), bytes_out=len(answer))
        return answer

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        """Ask a node that answers as a rendezvous node does, of whatever network."""
        if node.peer is None:
            return rendezvous.NO_ID
        if not self._is_up():
            return _STOPPED
        if (other := self._wires.nodes.get(node.peer)) is None:
            return Failed("unreachable", "no address answers", address=str(node))
        told = msgspec.structs.replace(message, why=self.traits.told_by(node.peer))
        asked = await self._ask(other, rendezvous.RENDEZVOUS, rendezvous.question(told))
        return rendezvous.answer(asked, node)

    async def fetch(
        self, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float
    ) -> Fetched | Failed:
        if not self._is_up():
            return _STOPPED
        bytes_before = self._bytes_in()
        try:
            async with asyncio.timeout(timeout_seconds), self._lock(f"blob {digest}"):
                return await self._fetch(digest, size, holders)
        except TimeoutError:
            return Failed("timeout", f"not within {timeout_seconds:g} s", self._bytes_in() - bytes_before)
        except StoreError as error:
            return Failed("unreachable", f"cannot be written here: {error}", self._bytes_in() - bytes_before)

    def receive(self, via: PeerId, gossip: _Gossip) -> None:
        """A message arrives over a link."""
        self.ledger.add(via, bytes_in=len(gossip.message))
        if gossip.id in self._seen or gossip.id[0] == self._me:
            return
        self._seen[gossip.id] = None
        if len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        envelope = opened(gossip.message)
        self.inbox.put(Heard(envelope, via))
        if limits.announced_here(envelope, self.network) is not None:
            self._spread(gossip, {via, gossip.id[0]})

    def sever(self) -> None:
        for peer in list(self.links):
            self.unlink(peer)

    def link(self, peer: PeerId, address: str) -> None:
        """Note the near end of a new connection."""
        self.links[peer] = address
        self.inbox.put(Connected(peer, address))

    def unlink(self, peer: PeerId) -> None:
        """Both ends of a connection go."""
        if self.links.pop(peer, None) is None:
            return
        self.inbox.put(Disconnected(peer))
        if (other := self._wires.nodes.get(peer)) is not None:
            other.unlink(self._me)

    def _is_up(self) -> bool:
        return self._wires.nodes.get(self._me) is self

    def _spread(self, gossip: _Gossip, except_to: set[PeerId]) -> None:
        for peer in sorted(self.links.keys() - except_to):
            self.ledger.add(peer, bytes_out=len(gossip.message))
            self._wires.carry(self._me, peer, gossip)

    async def _fetch(self, digest: Digest, size: int, holders: Sequence[PeerId]) -> Fetched | Failed:
        if self.shelf.size(digest) is not None:
            return Fetched(digest, holders[0] if holders else self._me, 0)
        plan, bytes_in = FetchPlan.of(holders), 0
        while plan.turns:
            holder = plan.turns[0].holder
            started_at = self.shelf.partial_size(digest)
            async with self._lock(f"peer {holder}"):
                outcome = await self._fetch_from(holder, digest, size)
            bytes_in += outcome.bytes_in
            if isinstance(outcome, Fetched):
                return Fetched(digest, holder, bytes_in, plan.wrong)
            plan = plan.after(outcome, started_at=started_at, stopped_at=started_at + outcome.bytes_in)
        return plan.failure(bytes_in)

    async def _fetch_from(self, holder: PeerId, digest: Digest, size: int) -> Fetched | Failed:
        other = self._wires.nodes.get(holder)
        if other is None or holder not in self.links:
            return Failed("unreachable", "not connected")
        if holder in self._wires.stalled:
            await asyncio.Event().wait()
        has = other.shelf.size(digest)
        if has is None:
            return Failed("absent")
        if has != size:
            return Failed("oversize", f"{has} bytes, {size} announced")
        if self._me in other.uploads or len(other.uploads) >= other.max_uploads:
            return Failed("busy")
        other.uploads.add(self._me)
        try:
            return self._copy(other, digest, size)
        finally:
            other.uploads.discard(self._me)

    async def _ask(self, other: MemoryTransport, exchange: Exchange, request: bytes) -> bytes | Failed:
        if len(request) > exchange.max_request_bytes:
            return Failed("oversize", f"a question of {len(request)} bytes, at most {exchange.max_request_bytes}")
        try:
            async with asyncio.timeout(exchange.patience_seconds):
                if other.me in self._wires.stalled:
                    await asyncio.Event().wait()
                answer = await other.answered(exchange.protocol, self._me, request)
        except TimeoutError:
            return Failed("timeout", f"does not answer within {exchange.patience_seconds:g} s")
        if isinstance(answer, bytes) and len(answer) > exchange.max_answer_bytes:
            return Failed("oversize", f"answers with {len(answer)} bytes, at most {exchange.max_answer_bytes}")
        return answer

    async def answered(self, protocol: str, peer: PeerId, request: bytes) -> bytes | Failed:
        """What this node answers to a question, within its own bounds."""
        exchange, answerer = self._exchanges.get(protocol, (None, None))
        if exchange is None or answerer is None:
            return Failed("refused", "does not speak that protocol")
        if not exchange.for_anybody and peer not in self.links:
            return self._turned_away(exchanges.OF_STRANGERS)
        asking = self._asking.setdefault(protocol, set())
        if peer in asking or len(asking) >= exchange.at_once:
            return self._turned_away(exchanges.UNSERVED)
        asking.add(peer)
        try:
            return await self._answered(exchange, answerer, peer, request)
        finally:
            asking.discard(peer)

    async def _answered(self, exchange: Exchange, answerer: Answerer, peer: PeerId, request: bytes) -> bytes | Failed:
        asked: bytes | Refusal = request
        if len(request) > exchange.max_request_bytes:
            self._counts[exchanges.OVERSIZE] += 1
            asked = Refusal("oversize", f"a frame of {len(request)} bytes, at most {exchange.max_request_bytes}")
        answer: bytes | None = None
        with Guarded(f"answer to {exchange.protocol}", self._failures) as guard:
            answer = await answerer(Asked(peer, str(peer), asked))
        if guard.error is not None or (answer is not None and len(answer) > exchange.max_answer_bytes):
            return self._turned_away(exchanges.FAILED)
        return _BUSY if answer is None else answer

    def _turned_away(self, what: str) -> Failed:
        self._counts[what] += 1
        return _BUSY

    def _copy(self, other: MemoryTransport, digest: Digest, size: int) -> Fetched | Failed:
        begun = held = self.shelf.partial_size(digest)
        while held < size:
            if self._wires.random.random() < self._wires.faults.cut:
                return Failed("unreachable", "the connection broke", held - begun)
            data = other.shelf.read(digest, held, min(self._wires.chunk_bytes, size - held))
            if not self.shelf.append_partial(digest, held, data):
                return Failed("unreachable", "what was held of it is gone", held - begun)
            held += len(data)
            self.ledger.add(other.me, bytes_in=len(data))
            other.ledger.add(self._me, bytes_out=len(data), blob=digest)
        if not self.shelf.complete_partial(digest):
            return Failed("corrupt", "the bytes do not hash to the digest", held - begun)
        return Fetched(digest, other.me, held - begun)

    def _lock(self, name: str) -> asyncio.Lock:
        if (lock := self._locks.get(name)) is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    def _bytes_in(self) -> int:
        return sum(row.bytes_in for row in self.ledger.snapshot().values())
