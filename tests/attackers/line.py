"""A connection to a target, made by hand from the parts of py-libp2p, so that every byte of it is the attacker's."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p import generate_new_ed25519_identity
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pfinetune.names import Digest
from peerd.net.libp2p.guard import attempt
from peerd.net.libp2p.node import blob_protocol, gossip_topic, hello_protocol
from peerd.wire.addresses import parse_address

HANDSHAKE_SECONDS = 10.0
BEGIN_SECONDS = 60.0  # until something is managed, on a machine that is busy with other things
LOOK_SECONDS = 0.01
REST_SECONDS = 0.05  # before a connection that was cut is made again


@dataclass(frozen=True)
class Target:
    """Whom to attack."""

    address: str
    """Multiaddr with /p2p/."""
    network: str = "a" * 64
    source: str = ""
    """Own address to come from; on loopback all of 127.0.0.0/8 are ours, and `many` takes another each time."""
    done: Counter[str] = field(default_factory=Counter)
    """What was managed."""
    begun: Callable[[], None] = lambda: None
    """Called when something was managed for the first time, by every crowd."""

    @property
    def peer(self):
        return parse_address(self.address).peer

    def protocol(self, name: str) -> str:
        ours = {"hello": hello_protocol, "blob": blob_protocol}
        return ours[name](Digest(self.network)) if name in ours else name

    @property
    def topic(self) -> str:
        return gossip_topic(Digest(self.network))

    async def tcp(self) -> trio.SocketStream:
        """A bare connection."""
        address = parse_address(self.address)
        found = trio.socket.socket()
        try:
            if self.source:
                await found.bind((anywhere() if self.source == "many" else self.source, 0))
            await found.connect((address.host, address.port))
        except BaseException:
            found.close()
            raise
        return trio.SocketStream(found)


def anywhere() -> str:
    """Some address of this machine."""
    return "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))


class Line:
    """An authenticated connection under an identity of its own; streams that the other side opens are ignored."""

    def __init__(self, muxer: Yamux, pair) -> None:
        self.muxer, self.pair = muxer, pair
        self.id = ID.from_pubkey(pair.public_key)
        self.first = itertools.count(1_000_001, 2)

    async def stream(self, protocol: str):
        """A stream on which that protocol is agreed."""
        stream = await self.muxer.open_stream()
        with trio.fail_after(HANDSHAKE_SECONDS):
            await MultiselectClient().select_one_of([protocol], MultiselectCommunicator(stream))
        return stream


@asynccontextmanager
async def secured(target: Target, pair) -> AsyncIterator[Any]:
    """Connected, and proved who one is; nothing is agreed after that."""
    tcp = await target.tcp()
    try:
        with trio.fail_after(HANDSHAKE_SECONDS):
            raw = RawConnection(TrioTCPStream(tcp), True)
            await MultiselectClient().select_one_of([NOISE], MultiselectCommunicator(raw))
            noise = Noise(pair, noise_privkey=create_new_key_pair().private_key)
            connection = await noise.secure_outbound(raw, ID.from_string(target.peer))
        yield connection
    finally:
        await trio.aclose_forcefully(tcp)


@asynccontextmanager
async def line(
    target: Target, pair=None, answer: Callable[[Any], Awaitable[None]] | None = None
) -> AsyncIterator[Line]:
    """Connect; a new identity where none is given. `answer` is said to each stream that the other side opens."""
    pair = pair or generate_new_ed25519_identity()
    async with secured(target, pair) as connection:
        with trio.fail_after(HANDSHAKE_SECONDS):
            await MultiselectClient().select_one_of([YAMUX], MultiselectCommunicator(connection))
        muxer = Yamux(connection, ID.from_string(target.peer), is_initiator=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxer.start)
            nursery.start_soon(_take_streams, muxer, answer, nursery)
            await muxer.event_started.wait()
            try:
                yield Line(muxer, pair)
            finally:
                nursery.cancel_scope.cancel()


async def member(target: Target, connection: Line) -> None:
    """Say the network's name, as who belongs to it does; else the connection is closed after ten seconds."""
    stream = await connection.stream(target.protocol("hello"))
    await stream.close()


async def _take_streams(muxer: Yamux, answer, nursery: trio.Nursery) -> None:
    while not muxer.is_closed:
        stream = await muxer.accept_stream()
        if answer is not None:
            nursery.start_soon(attempt, answer, stream)


async def again_and_again(target: Target, act: Callable[[], Awaitable[None]]) -> None:
    """Until cancelled; being cut is counted, and no reason to stop."""
    while True:
        try:
            await act()
        except Exception as error:  # of a library that was not made for this
            if is_ours(error):
                raise
            target.done["cut"] += 1
        except BaseExceptionGroup as group:
            _, other = group.split((Exception, trio.Cancelled))
            if other is not None or group.subgroup(trio.Cancelled):
                raise
            target.done["cut"] += 1
        await trio.sleep(REST_SECONDS)


def is_ours(error: BaseException) -> bool:
    """A mistake in the attacker itself is no success of its target."""
    if isinstance(error, BaseExceptionGroup):
        return any(is_ours(inner) for inner in error.exceptions)
    return isinstance(error, TypeError | NameError)


async def crowd(target: Target, seconds: float, act: Callable[[], Awaitable[None]], count: int = 1) -> Counter[str]:
    """So many at once, again and again, for so long after the first success."""
    with trio.move_on_after(seconds + BEGIN_SECONDS) as time:
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(again_and_again, target, act)
            while not set(target.done) - {"cut"}:  # noqa: ASYNC110  # a counter wakes nobody
                await trio.sleep(LOOK_SECONDS)
            target.begun()
            time.deadline = trio.current_time() + seconds
    return target.done
