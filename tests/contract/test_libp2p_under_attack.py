"""A real libp2p node on loopback, attacked; afterwards an honest peer still gets its blob from it."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import time
from contextlib import ExitStack

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import encode_varint_prefixed

from peerd.errors import TransportError, UsageError
from peerd.net import limits
from peerd.net.libp2p import blobs, frames, host
from peerd.net.libp2p.frames import read_exactly
from peerd.net.libp2p.node import blob_protocol, gossip_topic
from peerd.net.transport import Connected, Disconnected, Failed, Fetched, Heard
from peerd.wire.addresses import parse_address
from peerd.wire.envelope import opened
from peerd.wire.framing import frame, pack
from peerd.wire.messages import BlobReply, BlobRequest
from tests.attackers.floods import header
from tests.attackers.stock import BLOB, NETWORK, Attacker, attacking, honest_peer_gets_its_blob, until

MESHSUB = "/meshsub/1.2.0"


def test_garbage_and_silence_on_the_tcp_port(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        dice = random.Random(0)
        port = parse_address(victim.addresses[0]).port
        elsewhere = ("127.0.0.2", 0)  # so that the attacker's address is not that of the honest peer
        with ExitStack() as connections:
            for garbage in (
                b"\xff\xff\xff\xff" * 100,
                b"GET / HTTP/1.1\r\n\r\n",
                b"\x13/multistream/1.0.0\n" + b"\xff\xff\xff\xff\x7f" + dice.randbytes(100),
                dice.randbytes(5000),
                *[b""] * 130,  # more than there are slots for connections
            ):
                connection = socket.create_connection(("127.0.0.1", port), source_address=elsewhere)
                connections.enter_context(connection).sendall(garbage)

            await honest_peer_gets_its_blob(world, victim)
            refused = 130 - limits.MAX_PENDING_PER_ADDRESS
            await until(lambda: victim.transport.counts().get("connections-refused", 0) >= refused)

    play_libp2p(scenario)


def test_a_malformed_gossip_frame_costs_its_sender_the_connection(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(victim) as attacker:
            stream = await attacker.stream(victim, MESHSUB)
            await attacker.do(stream.write, encode_varint_prefixed(b"\xff" * 50))
            await victim.until(Disconnected(attacker.id))

            assert victim.transport.counts()["malformed-frames"] == 1
            await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


def message(attacker: Attacker, data: bytes, **changes: object) -> bytes:
    """A gossip frame that libp2p itself would not write."""
    given = {"from_id": attacker.host.get_id().to_bytes(), "seqno": os.urandom(8), "topicIDs": [gossip_topic(NETWORK)]}
    return rpc_pb2.RPC(publish=[rpc_pb2.Message(data=data, **{**given, **changes})]).SerializeToString()


THE_VICTIM = b"the victim's own id, in letters"
FORGED = (
    {},
    {"signature": b"x" * 64},
    {"signature": b"x" * 64, "key": b"\xff\xfe"},
    {"signature": b"x" * 64, "key": b"\x08\x01\x12\x20" + bytes(32)},
    {"signature": b"x", "key": b""},
    {"from_id": b"\x12\x20" + bytes(32), "signature": b"x", "key": b"\xff\xfe"},  # stock: Pubsub ends
    {"from_id": b"\x12\x20" + bytes(32), "signature": b"x", "key": b"\x08\x01\x12\x02xx"},
    {"from_id": b"", "signature": b"x"},
    {"from_id": b"\x00\x24" + b"\xff" * 36, "signature": b"x" * 64},
    {"from_id": THE_VICTIM, "signature": b"x" * 64},
    {"seqno": b"", "signature": b"x" * 64},
    {"topicIDs": []},
)


def test_unsigned_forged_and_broken_gossip_is_heard_by_nobody_and_ends_nothing(play_libp2p):
    async def scenario(world):
        victim, neighbour = await world.linked(2)
        good = neighbour.announcement()
        for changes in FORGED:  # some of which cost their sender the connection
            given = {name: victim.id.encode() if value is THE_VICTIM else value for name, value in changes.items()}
            async with attacking(victim) as attacker:
                stream = await attacker.stream(victim, MESHSUB)
                await attacker.do(stream.write, encode_varint_prefixed(message(attacker, good, **given)))
                if "topicIDs" not in changes:  # of other topics nothing is even counted
                    await until(lambda who=attacker.id: who in victim.transport.traffic())

        await neighbour.transport.publish(good)
        await victim.until(Heard(opened(good), neighbour.id))
        await honest_peer_gets_its_blob(world, victim)
        assert [h.via for h in victim.events if isinstance(h, Heard)] == [neighbour.id]
        await until(lambda: victim.transport.counts().get("gossip-tasks-failed", 0) >= 2)

    play_libp2p(scenario)


def test_a_gossip_frame_that_is_too_long_is_not_read(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(victim) as attacker:
            stream = await attacker.stream(victim, MESHSUB)
            await attacker.do(stream.write, b"\xff\xff\xff\x7f" + bytes(100_000))

            await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x7f\xff\xff\xff",
        b"\x00\x00\x00\x02\xc1\xc1",
        b"\x00\x00\x00\x00",
        frame(pack(BlobReply(status="ok")), max_bytes=512),
    ],
    ids=["oversize", "garbage", "empty", "another message"],
)
def test_a_bad_blob_request_is_counted_and_its_stream_reset(play_libp2p, request_bytes):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(victim) as attacker:
            stream = await attacker.stream(victim, blob_protocol(NETWORK))
            await attacker.do(stream.write, request_bytes)

            await until(lambda: victim.transport.counts().get("blob-requests-malformed") == 1)
            await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


def test_who_never_reads_its_blob_keeps_nobody_else_waiting(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        digest = victim.shelf.put(bytes(20_000_000))
        async with attacking(victim) as attacker:
            for _ in range(10):
                stream = await attacker.stream(victim, blob_protocol(NETWORK))
                await attacker.do(stream.write, frame(pack(BlobRequest(blob=digest)), max_bytes=512))

            await honest_peer_gets_its_blob(world, victim)
            began = time.monotonic()
            await victim.transport.stop()
            assert time.monotonic() - began < 10.0  # five are promised, of a machine that is not busy

    play_libp2p(scenario)


def test_a_peer_opens_so_many_streams_and_no_more(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(victim) as attacker:

            async def open_many() -> None:
                muxed = attacker.host.get_network().get_connections(ID.from_string(victim.id))[0].muxed_conn
                for _ in range(200):
                    await muxed.open_stream()

            await attacker.do(open_many)

            await until(lambda: victim.transport.counts().get("streams-refused", 0) >= 160)
            await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


def test_one_forwarder_is_heard_only_so_often(play_libp2p, monkeypatch):
    monkeypatch.setattr(limits, "MESSAGE_BURST", 5.0)
    monkeypatch.setattr(limits, "MESSAGES_A_SECOND", 0.001)

    async def scenario(world):
        victim, chatterbox = await world.linked(2)
        numbers = itertools.count()

        async def spam() -> None:
            while True:  # gossip may lose some of it before it reaches the victim
                await chatterbox.transport.publish(b"spam %d" % next(numbers))

        async with asyncio.TaskGroup() as tasks:
            spammer = tasks.create_task(spam())
            await until(lambda: victim.transport.counts().get("messages-too-many", 0) >= 15)
            spammer.cancel()
        await victim.until(Heard)
        assert sum(isinstance(h, Heard) for h in victim.events) <= 5  # fewer, where what is no announcement came twice
        await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


def liar(answer: bytes):
    async def handler(stream) -> None:
        await read_exactly(stream, 4)
        await stream.write(answer)
        await stream.close()

    return handler


async def mute(stream) -> None:
    await trio.sleep_forever()


OK = frame(pack(BlobReply(status="ok", size=len(BLOB))), max_bytes=512)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (liar(OK + bytes(len(BLOB))), "corrupt"),
        (liar(OK + bytes(len(BLOB)) + b"more"), "corrupt"),
        (liar(OK), "unreachable"),
        (liar(frame(pack(BlobReply(status="ok", size=2**50)), max_bytes=512)), "oversize"),
        (liar(b"\xff\xff\xff\xff"), "refused"),
        (liar(b"\x00\x00\x00\x01\xc1"), "refused"),
        (liar(b""), "unreachable"),
        (mute, "timeout"),
    ],
    ids=["lies", "lies at length", "breaks off", "another size", "oversize", "garbage", "says nothing", "hangs"],
)
def test_a_holder_that_fails_us_is_named_and_the_next_one_gives_the_blob(play_libp2p, monkeypatch, handler, reason):
    if handler is mute:
        monkeypatch.setattr(frames, "ANSWER_SECONDS", 0.8)
    monkeypatch.setattr(blobs, "REPEAT_SECONDS", 0.0)

    async def scenario(world):
        one, honest = await world.linked(2)
        digest = honest.shelf.put(BLOB)
        async with attacking(one) as attacker:
            attacker.serve_blobs(handler)

            failed = await one.transport.fetch(digest, len(BLOB), [attacker.id], 60.0)
            fetched = await one.transport.fetch(digest, len(BLOB), [attacker.id, honest.id], 60.0)

        assert isinstance(failed, Failed)
        assert failed.reason == reason
        assert attacker.id in failed.detail
        assert failed.wrong == (((attacker.id, reason),) if reason in {"corrupt", "oversize"} else ())
        assert isinstance(fetched, Fetched)
        assert fetched.wrong == failed.wrong
        assert fetched.source == honest.id
        assert one.shelf.blobs[digest] == BLOB

    play_libp2p(scenario)


def test_a_transfer_that_broke_off_goes_on_at_another_holder(play_libp2p, monkeypatch):
    monkeypatch.setattr(blobs, "REPEAT_SECONDS", 0.0)
    half = len(BLOB) // 2

    async def scenario(world):
        one, honest = await world.linked(2)
        digest = honest.shelf.put(BLOB)
        asked = []

        async def half_of_it(stream) -> None:
            await read_exactly(stream, 4)
            asked.append(1)
            await stream.write(OK + (BLOB[:half] if len(asked) == 1 else b""))
            await stream.close()

        async with attacking(one) as attacker:
            attacker.serve_blobs(half_of_it)
            fetched = await one.transport.fetch(digest, len(BLOB), [attacker.id, honest.id], 60.0)

        assert fetched == Fetched(digest, honest.id, len(BLOB))
        assert asked
        assert honest.transport.traffic()[one.id].bytes_out == len(BLOB) - half

    play_libp2p(scenario)


def test_the_budget_of_a_fetch_is_kept(play_libp2p):
    async def scenario(world):
        one = await world.peer()
        async with attacking(one) as attacker:
            attacker.serve_blobs(mute)
            began = time.monotonic()
            outcome = await one.transport.fetch("c" * 64, 10, [attacker.id], 0.3)

        assert isinstance(outcome, Failed)
        assert outcome.reason == "timeout"
        assert time.monotonic() - began < frames.ANSWER_SECONDS

    play_libp2p(scenario)


def test_a_closed_group_is_closed(play_libp2p, monkeypatch):
    async def scenario(world):
        one, member = await world.peer(psk="ab" * 32), await world.peer(psk="ab" * 32)
        wrong, none = await world.peer(psk="cd" * 32), await world.peer()
        digest = one.shelf.put(BLOB)

        with monkeypatch.context() as hurried:
            hurried.setattr(host, "DIAL_SECONDS", 1.0)
            for outsider in (wrong, none):
                outcome = await outsider.connect(one)
                assert isinstance(outcome, Failed)
                assert outcome.reason == "other-key"
        assert isinstance(await member.connect(one), Connected)
        assert isinstance(await member.transport.fetch(digest, len(BLOB), [one.id], 60.0), Fetched)
        assert one.transport.connected() == {member.id}

    play_libp2p(scenario)


def test_a_port_that_is_taken_is_refused_by_name(play_libp2p):
    async def scenario(world):
        first = await world.peer()
        taken = parse_address(first.addresses[0]).transport

        with pytest.raises(TransportError, match=f"cannot listen on {taken}"):
            await world.peer(listen=[taken])
        with pytest.raises(UsageError, match="cannot listen on 'localhost:1'"):
            await world.peer(listen=["localhost:1"])
        world.peers = [first]

    play_libp2p(scenario)


def test_connections_come_and_go_without_using_up_the_node(play_libp2p):
    async def scenario(world):
        victim, visitor = await world.linked(2)
        for _ in range(6):
            await visitor.transport.disconnect(victim.id)
            await until(lambda: visitor.id not in victim.transport.connected())
            assert isinstance(await visitor.connect(victim), Connected)

        network = victim.transport._node._host.get_network()
        await until(lambda: network._inbound_limiter.borrowed_tokens <= 2 and network.peerd_doors.inside <= 2)

    play_libp2p(scenario)


@pytest.mark.parametrize(("slow", "fast"), [({"max_upload": 10**6}, {}), ({}, {"max_download": 10**6})])
def test_a_rate_that_the_user_sets_is_kept(play_libp2p, slow, fast):
    async def scenario(world):
        holder, asker = await world.peer(**slow), await world.peer(**fast)
        digest = holder.shelf.put(BLOB)
        assert isinstance(await asker.connect(holder), Connected)

        began = time.monotonic()
        assert isinstance(await asker.transport.fetch(digest, len(BLOB), [holder.id], 60.0), Fetched)
        assert time.monotonic() - began >= len(BLOB) / 10**6 - 1.0 - 0.1  # a second's worth may go at once

    play_libp2p(scenario)


def test_a_writer_that_is_cancelled_takes_no_part_of_its_frame_back(play_libp2p):
    """Its message is encrypted by then: without its bytes the other end could read nothing any more."""

    async def scenario(world):
        one, other = await world.linked(2)
        digest = one.shelf.put(BLOB)

        async def write_and_be_cancelled() -> None:
            network = one.transport._node._host.get_network()
            muxer = network.get_connections(ID.from_string(other.id))[0].muxed_conn
            for number in range(200):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(muxer._write_frame, header(yamux.TYPE_PING, yamux.FLAG_SYN, 0, number))
                        await trio.lowlevel.checkpoint()
                        scope.cancel()

        await one.transport._bridge.call(write_and_be_cancelled)

        assert isinstance(await other.transport.fetch(digest, len(BLOB), [one.id], 30.0), Fetched)
        assert not other.saw(Disconnected)

    play_libp2p(scenario)
