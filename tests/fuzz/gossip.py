"""Target: an inbound stream as libp2p hands it over, before it is known what protocol it speaks.

The negotiation, then gossip frames, a greeting or a blob request: everything a connected stranger can begin with. The
host is a real one that listens nowhere, behind our guards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import trio
import trio.testing
from libp2p.pubsub.pb import rpc_pb2
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed

from peerd.net import limits
from peerd.net.libp2p import patches
from peerd.net.libp2p.host import make_host
from peerd.net.libp2p.node import Libp2pNode, blob_protocol, gossip_topic, hello_protocol
from peerd.net.transport import Heard
from peerd.wire.envelope import seal
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, BlobRequest
from tests.fuzz import mutate
from tests.fuzz.messages import KEY, NETWORK, OTHER_KEY, announcement
from tests.fuzz.protocols import CONTENT, CONTENT_DIGEST, Shelf, framed_message
from tests.fuzz.stream import EOF, RESET, SILENCE, Script, ScriptedStream, mutator, run_again_alike
from tests.fuzz.target import Target

MULTISTREAM, MESHSUB = "/multistream/1.0.0", "/meshsub/1.2.0"
TOPIC = gossip_topic(NETWORK)
MAX_READ = 64 * 1024  # one gossip frame; the negotiation and all else ask for less
PATIENCE_SECONDS = 3.0  # of virtual time; a gossip stream lasts for as long as the connection
WORDS = [MULTISTREAM.encode(), MESHSUB.encode(), TOPIC.encode(), hello_protocol(NETWORK).encode(), b"\x13", b"\n",
         blob_protocol(NETWORK).encode(), b"/ipfs/id/1.0.0", b"/ipfs/ping/1.0.0", b"\xff\xff\xff\xff\x0f"]  # fmt: skip


class _Inbox:
    """What is handed up."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def put(self, event: Any) -> None:
        self.heard.append(event)


def run_inbound(data: bytes) -> None:
    """The guard lets nothing out, the gossip services live on, and only bounded messages are handed up."""
    stream, heard, counts = played(Script.of(data))
    assert stream.asked <= MAX_READ
    assert set(counts) <= {
        "streams-failed", "malformed-frames", "messages-oversize", "messages-too-many", "blob-requests-malformed"
    }  # fmt: skip
    for event in heard:
        assert isinstance(event, Heard)
        assert len(event.envelope.data) <= MAX_ANNOUNCEMENT_BYTES


def played(script: Script) -> tuple[ScriptedStream, list[Any], Counter[str]]:
    """The stream afterwards, what was handed up, and what was counted."""
    inbox, counts, stream = _Inbox(), Counter[str](), ScriptedStream(script)

    async def main() -> None:
        ledger = limits.TrafficLedger()
        node: Any = Libp2pNode(KEY, NETWORK, Shelf(CONTENT), listen=(), psk=None, lan=False, inbox=inbox, ledger=ledger)  # type: ignore[arg-type]
        node._host = make_host(KEY, max_connections=4, max_inbound=4, psk=None, guard=node._guard)
        node._make_gossip()
        node._make_blobs()
        node._host.set_stream_handler(hello_protocol(NETWORK), node._answer_hello)
        async with (
            background_trio_service(node._pubsub) as pubsub,
            background_trio_service(node._pubsub.router) as router,
        ):
            await node._pubsub.wait_until_ready()
            await node._pubsub.subscribe(TOPIC)
            with trio.move_on_after(PATIENCE_SECONDS):
                await node._host.get_network().common_stream_handler(stream)
            await trio.testing.wait_all_tasks_blocked()
            assert pubsub.is_running
            assert router.is_running
        counts.update(node.counts)

    patches.install()
    run_again_alike(main)
    return stream, inbox.heard, counts


def spoken(*lines: str) -> bytes:
    """Lines of the negotiation."""
    return b"".join(encode_varint_prefixed(f"{line}\n".encode()) for line in lines)


def gossip(*rpcs: Any) -> bytes:
    """A gossip stream."""
    frames = b"".join(encode_varint_prefixed(rpc.SerializeToString()) for rpc in rpcs)
    return spoken(MULTISTREAM, MESHSUB) + frames


def message(payload: bytes, number: bytes = b"\0" * 8, **fields: Any) -> Any:
    """A gossip message signed as libp2p wants it."""
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    pair = create_new_key_pair(OTHER_KEY.seed)
    found = rpc_pb2.Message(
        data=payload, topicIDs=[TOPIC], from_id=ID.from_string(OTHER_KEY.peer_id).to_bytes(), seqno=number
    )
    found.signature = pair.private_key.sign(b"libp2p-pubsub:" + found.SerializeToString())
    found.key = pair.public_key.serialize()
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def inbound_seeds() -> Iterator[bytes]:
    """Honest streams of every protocol, and frames that end a stock node."""
    good = seal(OTHER_KEY, announcement(peer=OTHER_KEY.peer_id))
    subscribe = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)])
    control = rpc_pb2.ControlMessage(
        graft=[rpc_pb2.ControlGraft(topicID=TOPIC)], prune=[rpc_pb2.ControlPrune(topicID=TOPIC)],
        ihave=[rpc_pb2.ControlIHave(topicID=TOPIC, messageIDs=[b"a", b"(b'x', b'y')"])],
        iwant=[rpc_pb2.ControlIWant(messageIDs=[b"a", b"__import__('os')"])],
    )  # fmt: skip
    said = [
        gossip(subscribe, rpc_pb2.RPC(publish=[message(good)])),
        gossip(rpc_pb2.RPC(publish=[message(b"x" * 4097, b"\1" * 8), message(b"")])),
        gossip(
            rpc_pb2.RPC(publish=[message(good, signature=b"x" * 64), message(good, key=b"k"), message(good, seqno=b"")])
        ),
        gossip(rpc_pb2.RPC(control=control)),
        gossip(rpc_pb2.RPC(senderRecord=b"record")),
        gossip() + b"\x05\xff\xff\xff\xff\xff",
        gossip() + b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        gossip() + b"\x80\x80\x04" + b"a" * 9,
        spoken(MULTISTREAM, hello_protocol(NETWORK)),
        spoken(MULTISTREAM, blob_protocol(NETWORK)) + framed_message(BlobRequest(blob=CONTENT_DIGEST, offset=1000)),
        spoken(MULTISTREAM, "/ipfs/ping/1.0.0") + b"p" * 32,
        spoken(MULTISTREAM, "/ipfs/id/1.0.0"),
        spoken(MULTISTREAM, "ls", "/no/such", "na"),
        spoken("/nonsense"),
        b"\xff\xff\xff\xff\x0f",
        b"GET / HTTP/1.1\r\n\r\n",
    ]
    for ending, one in zip([EOF, RESET, SILENCE, *[EOF] * len(said)], said, strict=False):
        yield Script(ending, 0, b"", one).bytes()
    yield Script(EOF, 0, b"\0\2", said[0]).bytes()
    yield Script(EOF, 1, b"", said[8]).bytes()
    yield Script(EOF, 2, b"", said[9]).bytes()


def _mutate_frames(data: bytes, dice: Random) -> bytes:
    """The negotiation kept more often than not, and the frame behind it rewritten with its length."""
    begin = len(spoken(MULTISTREAM, MESHSUB))
    if dice.random() < 0.3 or not data.startswith(spoken(MULTISTREAM)):
        return _PLAIN(data, dice)
    frame = data[begin:]
    size, shift, read = 0, 0, 0
    for byte in frame[:5]:
        size, shift, read = size | (byte & 127) << shift, shift + 7, read + 1
        if byte < 128:
            break
    body = _PLAIN(frame[read : read + size], dice)
    return data[:begin] + encode_varint_prefixed(body) + frame[read + size :]


_PLAIN = mutate.plain(WORDS)
TARGETS = (
    Target(
        name="inbound-stream", run=run_inbound, seeds=inbound_seeds, max_bytes=3000, mutate=mutator(_mutate_frames),
        words=WORDS, peak_bytes=8 << 20,
    ),
)  # fmt: skip
