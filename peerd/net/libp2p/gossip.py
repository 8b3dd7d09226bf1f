"""Gossip that a stranger cannot end, fill or keep busy: guards around Pubsub and GossipSub of py-libp2p 0.8.1.

The protocol is gossipsub v1.1 (libp2p specs, pubsub/gossipsub), with v1.2 spoken to those who know it: a mesh of
`degree` peers is pushed whole messages, all others hear of them by id (IHAVE) and may ask (IWANT). Announcements are
small and rare, so the defaults of the specification do (D = 6, D_low = 4, D_high = 12, a heartbeat a second).

What is taken from v1.1 against attacks, and what is not:

- *Flood publishing:* what this peer says itself goes to all that are connected, not to the mesh alone, so a mesh full
  of silent strangers cannot mute it.
- *Peer exchange in PRUNE is removed* before the router sees it: whom to dial is not for a stranger to say.
- *The library's peer score stays as it comes*, and nothing here builds on it: how a peer stands is for the core to
  judge (`peerd.core.offences`), which knows what it announced and what its updates were worth.

Work is done in the order of its price: has it been seen? is it within the shares of its forwarder and of that one's
place? Only then the signature is checked. Bytes beyond the share are not dropped but read later, so the flow control of
yamux and TCP holds the sender back; messages beyond it are dropped and counted, since they are said again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pubsub import Pubsub

from peerd.net import limits
from peerd.net.libp2p.frames import place_of
from peerd.net.libp2p.guard import Guard
from peerd.pacing import TokenBucket
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES

MAX_RPC_BYTES = 16 * MAX_ANNOUNCEMENT_BYTES  # one frame


class Shares:
    """What each peer or place may still say, by one measure; of so many, those heard of last."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def of(self, speaker: Any) -> TokenBucket:
        """The same one however often it connects."""
        name = str(speaker)
        bucket = self._buckets.pop(name, None) or TokenBucket(self._rate, self._burst)
        self._buckets[name] = bucket
        if len(self._buckets) > limits.MAX_KNOWN_PEERS:
            self._buckets.popitem(last=False)
        return bucket


class PacedStream:
    """A gossip stream of one peer, read no faster than its shares: what waits, waits at the peer's end."""

    def __init__(self, stream: Any, *buckets: TokenBucket) -> None:
        self._stream, self._buckets = stream, buckets

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, size: int) -> bytes:
        data: bytes = await self._stream.read(size)
        if pause := max(bucket.pause(trio.current_time(), len(data)) for bucket in self._buckets):
            await trio.sleep(pause)
        return data


class GuardedPubsub(Pubsub):  # type: ignore[misc]  # libp2p is untyped here
    """Pubsub whose tasks cannot end the service, whatever is inside a message; tells bytes by peer."""

    def __init__(
        self,
        host: Any,
        topic: str,
        *,
        traffic: Callable[[Any, int, int], None],
        guard: Guard,
    ) -> None:
        router = GuardedGossipSub(topic, guard)
        super().__init__(host, router, strict_signing=True, max_inbound_rpc_size=MAX_RPC_BYTES, allowed_topics={topic})
        self._traffic, self._guard = traffic, guard
        self._messages = Shares(limits.MESSAGES_A_SECOND, limits.MESSAGE_BURST)
        self._bytes = Shares(limits.GOSSIP_BYTES_A_SECOND, limits.GOSSIP_BYTES_BURST)
        many = limits.PLACE_FORWARDERS
        self._messages_of_place = Shares(many * limits.MESSAGES_A_SECOND, many * limits.MESSAGE_BURST)
        self._bytes_of_place = Shares(many * limits.GOSSIP_BYTES_A_SECOND, many * limits.GOSSIP_BYTES_BURST)
        self._places: dict[Any, tuple[str, Any]] = {}
        self._under_way: set[bytes] = set()

    async def run(self) -> None:
        """As the original, every task guarded."""
        original = self.manager.run_task

        def run_task(function: Callable[..., Awaitable[None]], *arguments: Any, **options: Any) -> None:
            if function == self.push_msg:
                self._look_at(original, *arguments)
                return

            about = arguments[0] if arguments and isinstance(arguments[0], ID) else None

            async def guarded(*given: Any) -> None:
                await self._guard.run("gossip", about, function, *given)

            original(guarded, *arguments, **options)

        self.manager.run_task = run_task
        await super().run()

    async def continuously_read_stream(self, stream: Any) -> None:
        peer, place = stream.muxed_conn.peer_id, place_of(stream)
        paced = PacedStream(stream, self._bytes.of(peer), self._bytes_of_place.of(place))
        mine = self._places[peer] = (place, paced)
        try:
            await super().continuously_read_stream(paced)
        finally:
            if self._places.get(peer) is mine:  # it may have come back already
                del self._places[peer]

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """As the original, whose queue of those who left ends with the first that cannot be forgotten."""
        self._guard.call("gossip-goodbye", super()._handle_dead_peer, peer_id)

    def _look_at(self, run_task: Callable[..., None], forwarder: Any, message: Any) -> None:
        """What is new and within its forwarder's share; a signature, the dear part, is looked at after that."""
        self._traffic(forwarder, message.ByteSize(), 0)
        name = self.get_message_id(message) + message.signature  # a forgery must not keep the true one from being heard
        if name in self._under_way or self._is_msg_seen(message):
            return
        now, (place, _) = trio.current_time(), self._places.get(forwarder, (limits.UNKNOWN_PLACE, None))
        is_allowed = self._messages.of(forwarder).take(now) and self._messages_of_place.of(place).take(now)
        if len(self._under_way) >= limits.MAX_MESSAGES_UNDER_WAY or not is_allowed:
            self._guard.count("messages-too-many")
            return
        self._under_way.add(name)

        async def look() -> None:
            try:
                await self._guard.run("gossip", forwarder, self.push_msg, forwarder, message)
            finally:
                self._under_way.discard(name)

        run_task(look)

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        written: bool = await super().write_msg(stream, rpc_msg)
        if written and rpc_msg.publish:
            self._traffic(stream.muxed_conn.peer_id, 0, rpc_msg.ByteSize())
        return written


class GuardedGossipSub(GossipSub):  # type: ignore[misc]  # libp2p is untyped here
    """GossipSub that keeps nothing of topics that are not ours, and answers so much at a time."""

    def __init__(self, topic: str, guard: Guard) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V12, PROTOCOL_ID_V11],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,  # seconds; the default of 120 leaves a newcomer deaf
            max_messages_per_topic_per_second=200.0,  # the default of 10 counts forwarders and our own
        )
        self._topic, self._guard = topic, guard

    async def heartbeat(self) -> None:
        """As the original, again if it fails: stock, its end is that of all gossip."""
        await self._guard.keep("heartbeat", super().heartbeat)

    def _get_peers_to_send(
        self, topic_ids: Iterable[str], msg_forwarder: ID, origin: ID, msg_id: Any = None
    ) -> set[ID]:
        """As the original; but what I say myself goes to everybody that I am connected with, as in go-libp2p.

        The mesh is six to twelve peers of anybody's choice: a crowd that asks first could fill it and be silent.
        """
        chosen = set(super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id))
        if self.pubsub is not None and msg_forwarder == origin == self.pubsub.my_id:
            listening = self.pubsub.peer_topics.get(self._topic, set()) & self.pubsub.peers.keys()
            chosen |= listening - {origin}
        return chosen

    async def handle_rpc(self, rpc: Any, sender_peer_id: Any) -> None:
        """As the original, of what is worth it."""
        trim(rpc.control, self._topic)
        await super().handle_rpc(rpc, sender_peer_id)
        self._forget_back_offs()

    def _forget_back_offs(self) -> None:
        """Stock, they stay for ever; a new identity costs nothing."""
        left = self.back_off.get(self._topic, {})
        if len(left) > limits.MAX_BACK_OFFS:
            now = time.time()
            lasting = [(until, peer) for peer, until in left.items() if until > now]
            kept = sorted(lasting, key=lambda found: found[0])[-limits.MAX_BACK_OFFS // 2 :]
            self.back_off[self._topic] = {peer: until for until, peer in kept}


def trim(control: Any, topic: str) -> None:
    """Leave of a control message what an honest peer may say: few entries, of our topic, each id once."""
    for kind in ("ihave", "graft", "prune"):
        entries = getattr(control, kind)
        _keep(entries, [entry for entry in entries if entry.topicID == topic][: limits.MAX_CONTROLS])
    _keep(control.iwant, list(control.iwant)[: limits.MAX_CONTROLS])
    _keep(control.idontwant, list(control.idontwant)[: limits.MAX_CONTROLS])
    for entry in (*control.ihave, *control.iwant, *control.idontwant):
        ids = list(dict.fromkeys(entry.messageIDs))[: limits.MAX_CONTROL_IDS]
        del entry.messageIDs[:]
        entry.messageIDs.extend(ids)
    for entry in control.prune:
        del entry.peers[:]  # whom to dial instead: that is not for a stranger to say


def _keep(entries: Any, kept: list[Any]) -> None:
    copies = [entry.SerializeToString() for entry in kept]
    del entries[:]
    for copy in copies:
        entries.add().ParseFromString(copy)
