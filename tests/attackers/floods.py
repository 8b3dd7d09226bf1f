"""Attackers that send as much as they can."""

from __future__ import annotations

import itertools
import os
import random
import struct
import time
from collections import Counter

import trio
from libp2p import generate_new_ed25519_identity
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import PUBSUB_SIGNING_PREFIX
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import encode_varint_prefixed

from p2pfinetune.names import Digest, PeerId
from peerd.wire.envelope import seal
from peerd.wire.framing import frame, pack
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement, Register
from tests.attackers.line import Line, Target, crowd, line, member

MESHSUB = "/meshsub/1.2.0"


async def connection_flood(target: Target, seconds: float, count: int = 40, identities: bool = True) -> Counter[str]:
    """Connections that are proper and useless; each under a new identity, or all under one."""
    pair = None if identities else generate_new_ed25519_identity()

    async def hold() -> None:
        async with line(target, pair) as connection:
            target.done["connections"] += 1
            await member(target, connection)
            await connection.muxer.event_closed.wait()

    return await crowd(target, seconds, hold, count)


async def identity_flood(target: Target, seconds: float, count: int = 12) -> Counter[str]:
    """New identities that come, say the network's name and go."""

    async def visit() -> None:
        async with line(target) as connection:
            await member(target, connection)
            target.done["identities"] += 1

    return await crowd(target, seconds, visit, count)


async def stream_flood(target: Target, seconds: float, streams: int = 10_000, count: int = 1) -> Counter[str]:
    """Streams that say nothing."""

    async def attack() -> None:
        async with line(target) as connection:
            for number in itertools.islice(connection.first, streams):
                await connection.muxer._write_frame(header(yamux.TYPE_WINDOW_UPDATE, yamux.FLAG_SYN, number))
                target.done["streams"] += 1
            await connection.muxer.event_closed.wait()

    return await crowd(target, seconds, attack, count)


async def frame_flood(target: Target, seconds: float, count: int = 1) -> Counter[str]:
    """Pings and window updates, a Noise message full of them at a time."""
    ping = header(yamux.TYPE_PING, yamux.FLAG_SYN, 0, 7)
    update = header(yamux.TYPE_WINDOW_UPDATE, 0, 1, 1)
    frames = (ping + update) * 2000

    async def attack() -> None:
        async with line(target) as connection:
            await member(target, connection)
            while not connection.muxer.is_closed:
                await connection.muxer.secured_conn.write(frames)
                target.done["frames"] += 4000

    return await crowd(target, seconds, attack, count)


async def window_flood(target: Target, seconds: float, streams: int = 8, count: int = 4) -> Counter[str]:
    """Data for requests and gossip that is more than any window that was granted."""

    async def attack() -> None:
        async with line(target) as connection:
            opened = [(await connection.stream(target.protocol("blob"))).stream_id for _ in range(streams)]
            for number in itertools.cycle(opened):
                data = bytes(60_000)
                await connection.muxer._write_frame(header(yamux.TYPE_DATA, 0, number, len(data)) + data)
                target.done["bytes"] += len(data)

    return await crowd(target, seconds, attack, count)


async def huge_prefix(target: Target, seconds: float) -> Counter[str]:
    """Lengths of 2^31 and more, wherever a length is read, and then bytes as long as somebody takes them."""
    varint = b"\xff\xff\xff\xff\x07"  # 2^31 - 1
    endless = b"\xff" * 9 + b"\x01"  # 2^64 - 1
    big = b"\x7f\xff\xff\xff"
    bare = [varint, endless, b"\x13/multistream/1.0.0\n" + varint, b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff"]
    of_streams = [
        (target.protocol("blob"), big),
        (target.protocol("blob"), b"\xff" * 4),
        (target.protocol("hello"), big),
        (MESHSUB, varint),
        (MESHSUB, endless),
        ("/ipfs/id/1.0.0", varint),
        ("/ipfs/ping/1.0.0", varint),
        ("", varint),
        ("", endless),
    ]

    async def pour(write, beginning: bytes) -> None:
        target.done["prefixes"] += 1
        await write(beginning)
        for _ in range(256):
            await write(bytes(64 * 1024))
            target.done["bytes"] += 64 * 1024

    async def on_the_port() -> None:
        for beginning in bare:
            async with await target.tcp() as tcp:
                await _until_cut(pour, tcp.send_all, beginning)

    async def on_a_stream() -> None:
        for protocol, beginning in of_streams:
            async with line(target) as connection:
                stream = await (connection.stream(protocol) if protocol else connection.muxer.open_stream())
                await _until_cut(pour, stream.write, beginning)

    async def in_a_frame() -> None:
        async with line(target) as connection:
            stream = await connection.stream(target.protocol("blob"))
            claimed = header(yamux.TYPE_DATA, 0, stream.stream_id, 2**31)
            await _until_cut(pour, connection.muxer.secured_conn.write, claimed)

    async with trio.open_nursery() as nursery:
        for attack in (on_the_port, on_a_stream, in_a_frame):
            nursery.start_soon(crowd, target, seconds, attack)
    return target.done


async def _until_cut(pour, write, beginning: bytes) -> None:
    try:
        with trio.move_on_after(2.0):  # then nobody reads any more
            await pour(write, beginning)
    except Exception:  # being cut is what is hoped for
        return


async def announcement_flood(target: Target, seconds: float, identities: bool = True, count: int = 1) -> Counter[str]:
    """Announcements, each properly signed: by an identity of its own, or all by one with rising numbers."""
    one, numbers = PeerKey(os.urandom(32)), itertools.count(1)

    async def attack() -> None:
        async with line(target) as connection:
            await member(target, connection)
            stream = await connection.stream(MESHSUB)
            hello = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=target.topic)])
            await stream.write(encode_varint_prefixed(hello.SerializeToString()))
            while not connection.muxer.is_closed:
                key = PeerKey(os.urandom(32)) if identities else one
                message = gossip(connection, target.topic, seal(key, announcement(target, key, next(numbers))))
                await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=[message]).SerializeToString()))
                target.done["announcements"] += 1

    return await crowd(target, seconds, attack, count)


async def control_flood(target: Target, seconds: float, count: int = 4) -> Counter[str]:
    """IHAVE, IWANT, GRAFT, PRUNE, IDONTWANT and subscriptions of topics and messages that do not exist."""
    dice = random.Random(0)

    def nonsense() -> rpc_pb2.RPC:
        topics = [target.topic, *(dice.randbytes(12).hex() for _ in range(100))]
        ids = [dice.randbytes(20).hex().encode() for _ in range(400)]
        control = rpc_pb2.ControlMessage(
            ihave=[rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids[:3]) for topic in topics],
            iwant=[rpc_pb2.ControlIWant(messageIDs=ids)],
            graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in topics],
            prune=[rpc_pb2.ControlPrune(topicID=topic, backoff=2**31) for topic in topics],
            idontwant=[rpc_pb2.ControlIDontWant(messageIDs=ids[:100])],
        )
        wanted = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic) for topic in topics]
        return rpc_pb2.RPC(control=control, subscriptions=wanted)

    async def attack() -> None:
        async with line(target) as connection:
            await member(target, connection)
            stream = await connection.stream(MESHSUB)
            while True:
                await stream.write(encode_varint_prefixed(nonsense().SerializeToString()))
                target.done["frames"] += 1

    return await crowd(target, seconds, attack, count)


async def register_flood(target: Target, seconds: float, count: int = 16) -> Counter[str]:
    """New identities that register at a rendezvous node, each in a network that exists and one that does not."""

    async def attack() -> None:
        async with line(target) as connection:
            for network in (target.network, os.urandom(32).hex()):
                stream = await connection.stream("/peerd/rendezvous/2")
                ask = Register(network=Digest(network), addresses=("/ip4/127.0.0.1/tcp/1",), want=64)
                await stream.write(frame(pack(ask), max_bytes=4096))
                await stream.read(4096)
                target.done["registrations"] += 1

    return await crowd(target, seconds, attack, count)


def header(kind: int, flags: int, stream: int, length: int = 0) -> bytes:
    """Of a yamux frame."""
    return struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, kind, flags, stream, length)


def announcement(target: Target, key: PeerKey, number: int) -> Announcement:
    """Of a blob that nobody has."""
    return Announcement(
        network=Digest(target.network),
        peer=PeerId(key.peer_id),
        epoch=1,
        sequence=number,
        round=1,
        codec="bf16",
        size=1000,
        blob=Digest(os.urandom(32).hex()),
        time=int(time.time()),
        addresses=("/ip4/127.0.0.1/tcp/1",),
    )


def gossip(connection: Line, topic: str, data: bytes) -> rpc_pb2.Message:
    """As GossipSub signs it."""
    message = rpc_pb2.Message(from_id=connection.id.to_bytes(), data=data, topicIDs=[topic], seqno=os.urandom(8))
    message.signature = connection.pair.private_key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    message.key = connection.pair.public_key.serialize()
    return message
