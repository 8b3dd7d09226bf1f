"""The limits inside one connection: windows, frames, negotiation and gossip control, each by itself."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from libp2p.exceptions import ParseError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux

from peerd.net import limits
from peerd.net.libp2p import gossip, muxer, patches
from peerd.net.libp2p.guard import Guard
from peerd.wire.keys import PeerKey
from tests.attackers.floods import header
from tests.attackers.line import Target, line

FRAME = bytes(60_000)


def muxed(*, initiator: bool = False, streams: int = 8, read=None) -> muxer.GuardedYamux:
    """A connection of so many streams; `initiator`: that we opened."""
    found = muxer.GuardedYamux(SimpleNamespace(read=read, is_initiator=initiator), "peer", initiator)
    for number in range(streams):
        window = limits.STREAM_BUFFER_BYTES if initiator else yamux.DEFAULT_WINDOW_SIZE
        found.streams[number] = SimpleNamespace(is_initiator=initiator, recv_window=window)
        found.stream_buffers[number] = bytearray()
    return found


def held(connection: muxer.GuardedYamux, streams: int) -> int:
    def fill() -> None:
        for number in itertools.islice(itertools.cycle(range(streams)), 1000):
            connection.stream_buffers[number].extend(FRAME)
            connection.streams[number].recv_window -= len(FRAME)

    with pytest.raises(muxer.Abuse):
        fill()
    return sum(map(len, connection.stream_buffers.values()))


def in_virtual_time(main) -> float:
    async def timed() -> float:
        began = trio.current_time()
        await main()
        return trio.current_time() - began

    return trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_stream_holds_what_was_granted_and_no_more():
    async def main():
        assert held(muxed(initiator=True), 1) <= limits.STREAM_BUFFER_BYTES + muxer.NOISE_MESSAGE_BYTES

    trio.run(main)


def test_all_streams_that_a_peer_opened_hold_one_window_together():
    async def main():
        assert held(muxed(), 8) <= limits.MAX_UNREAD_BYTES + muxer.NOISE_MESSAGE_BYTES

    trio.run(main)


def test_small_frames_wait_for_their_turn_and_big_ones_pay_for_them():
    async def read(size):
        return bytes(size)

    async def small(paying: int) -> None:
        connection = muxed(read=read)
        for _ in range(4000):
            await connection._read_paced(yamux.HEADER_SIZE)
            if paying:
                await connection._read_data_body(paying)

    slow = (4000 - limits.FRAME_BURST) / limits.FRAMES_A_SECOND
    assert in_virtual_time(partial(small, 0)) == pytest.approx(slow, rel=0.01)
    assert in_virtual_time(partial(small, limits.PAYING_FRAME_BYTES)) == 0.0


def test_who_does_not_read_is_disconnected():
    closed = []

    async def forever(_data):
        await trio.sleep_forever()

    async def close():
        closed.append(True)

    async def main():
        connection = muxed(read=None)
        connection.secured_conn.write = forever
        connection.secured_conn.close = close
        with pytest.raises(muxer.MuxedStreamError):
            await connection._write_frame(bytes(12))

    assert in_virtual_time(main) == limits.WRITE_SECONDS
    assert closed


def test_every_connection_is_of_the_guarded_kind(play_libp2p):
    async def scenario(world):
        for peer in await world.linked(2):
            (connection,) = peer.transport._node._host.get_network().get_connections()
            assert isinstance(connection.muxed_conn, muxer.GuardedYamux)

    play_libp2p(scenario)


@pytest.mark.parametrize("length", [2**31, limits.MAX_FRAME_BYTES + 1, len(FRAME)])
def test_who_ignores_a_limit_is_cut_off(play_libp2p, length):
    async def attack(target):
        async with line(target) as connection:
            stream = await connection.muxer.open_stream()  # for no protocol: nobody reads it
            for _ in range(300):
                if connection.muxer.is_closed:
                    return True
                frame = header(yamux.TYPE_DATA, 0, stream.stream_id, length)
                await connection.muxer.secured_conn.write(frame + FRAME)
                await trio.sleep(0.01)
        return False

    async def cut(target):
        try:
            return await attack(target)
        except (Exception, BaseExceptionGroup):  # cut in the middle of a write
            return True

    async def scenario(world):
        victim = await world.peer()
        target = Target(next(a for a in victim.addresses if "127.0.0.1" in a))
        assert await asyncio.to_thread(trio.run, cut, target)

    play_libp2p(scenario)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, 0

    async def read(self, size: int) -> bytes:
        self.asked = max(self.asked, size)
        data, self.data = self.data[:size], self.data[size:]
        return data


def test_a_line_of_a_negotiation_is_short():
    long = Reader(b"\xff\xff\xff\xff\x07" + bytes(10_000))

    assert trio.run(patches._read_negotiation, Reader(b"\x07/noise\n")) == b"/noise"
    with pytest.raises(ParseError):
        trio.run(patches._read_negotiation, long)
    assert long.asked == 1
    with pytest.raises(ParseError):
        trio.run(patches._read_negotiation, Reader(b"\x06/noise\n"))


def test_of_control_messages_remains_what_an_honest_peer_may_say():
    topics = ["ours"] * 50 + [f"other {n}" for n in range(50)]
    ids = [b"%d" % (n % 100) for n in range(1000)]
    control = rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID=topic, messageIDs=ids) for topic in topics],
        iwant=[rpc_pb2.ControlIWant(messageIDs=ids)] * 50,
        graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in topics],
        prune=[rpc_pb2.ControlPrune(topicID=topic, peers=[rpc_pb2.PeerInfo(peerID=b"x")]) for topic in topics],
    )

    gossip.trim(control, "ours")

    for kind in (control.ihave, control.graft, control.prune):
        assert {entry.topicID for entry in kind} == {"ours"}
        assert len(kind) == limits.MAX_CONTROLS
    assert len(control.iwant) == limits.MAX_CONTROLS
    assert list(control.iwant[0].messageIDs) == ids[: limits.MAX_CONTROL_IDS]
    assert not control.prune[0].peers


def test_what_i_say_myself_reaches_everybody_though_a_crowd_has_filled_the_mesh():
    me, honest, elsewhere, *crowd = [ID.from_string(PeerKey(bytes([n]) * 32).peer_id) for n in range(1, 20)]
    router = gossip.GuardedGossipSub("t", Guard(lambda _: None))
    router.pubsub = SimpleNamespace(
        my_id=me, peers=dict.fromkeys([honest, *crowd]), peer_topics={"t": {honest, *crowd, elsewhere}}
    )
    router.mesh = {"t": set(crowd[:12])}

    assert set(router._get_peers_to_send(["t"], me, me)) == {honest, *crowd}  # as the library calls it
    assert set(router._get_peers_to_send(["t"], crowd[0], crowd[1])) == set(crowd[2:12])


def listening() -> gossip.GuardedPubsub:
    """As much of it as looks at messages."""
    network = SimpleNamespace(register_notifee=lambda _: None)
    host = SimpleNamespace(
        get_id=lambda: ID.from_string(PeerKey(bytes([1]) * 32).peer_id),
        get_private_key=lambda: None,
        get_network=lambda: network,
        set_stream_handler=lambda *_: None,
    )
    found = gossip.GuardedPubsub(host, "t", traffic=lambda *_: None, guard=Guard(lambda _: None))
    found._is_msg_seen = lambda _: False
    found.get_message_id = lambda message: message.from_id + message.seqno
    return found


def test_a_forgery_under_the_name_of_a_message_does_not_keep_the_true_one_from_being_looked_at():
    async def main():
        pubsub, looked = listening(), []
        for signature in (b"forged", b"forged", b"true"):
            message = rpc_pb2.Message(from_id=b"ada", seqno=b"1", data=b"d", signature=signature)
            pubsub._look_at(looked.append, signature, message)

        assert len(looked) == 2

    trio.run(main)


def test_ever_new_identities_of_one_place_are_heard_no_more_than_some_peers_and_others_are_heard():
    async def main():
        pubsub, looked = listening(), []
        for number in range(1000):  # each within its own share
            pubsub._places[f"sybil-{number}"] = ("192.0.2.1", None)
            pubsub._look_at(looked.append, f"sybil-{number}", rpc_pb2.Message(from_id=b"%d" % number, seqno=b"1"))
        crowd = len(looked)
        pubsub._places["honest"] = ("198.51.100.7", None)
        pubsub._look_at(looked.append, "honest", rpc_pb2.Message(from_id=b"honest", seqno=b"1"))

        assert crowd <= limits.PLACE_FORWARDERS * limits.MESSAGE_BURST
        assert len(looked) == crowd + 1

    trio.run(main, clock=trio.testing.MockClock())  # where no time passes, however busy the machine is


def test_a_stream_that_only_we_closed_counts_until_the_other_side_closes_it_and_is_reset_in_the_end():
    """yamux keeps it in its table so long: who never closes would fill it, a question at a time."""
    counts, handlers, resets = [], [], []

    class Stream:
        muxed_conn = SimpleNamespace(peer_id="peer")

        async def read(self, _most: int) -> bytes:
            await trio.sleep_forever()
            return b""

        async def reset(self) -> None:
            resets.append(trio.current_time())

    async def answered(_stream: Stream) -> None:
        return

    async def main():
        network = SimpleNamespace(set_stream_handler=handlers.append)
        patches.guard_streams(
            SimpleNamespace(_swarm_stream_handler=answered, get_network=lambda: network), Guard(counts.append)
        )
        async with trio.open_nursery() as streams:
            for _ in range(limits.MAX_STREAMS_PER_PEER + 5):
                streams.start_soon(handlers[0], Stream())

    assert in_virtual_time(main) == pytest.approx(limits.CLOSE_SECONDS)
    assert counts == ["streams-refused"] * 5
    assert len(resets) == limits.MAX_STREAMS_PER_PEER + 5
