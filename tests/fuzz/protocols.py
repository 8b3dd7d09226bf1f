"""Targets: both sides of the protocols on streams, played against a scripted other side in virtual time.

Always: it ends, within bounds; what is read is asked for in bounded pieces, and nothing beyond what was announced is
read; the reason given is the right one; the only exceptions are the network's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, get_args
from unittest.mock import patch

import trio

from bootstrap.registry import State, register
from bootstrap.service import Rendezvous
from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.discovery.bootstrap import _tell_all
from peerd.net import exchanges, limits
from peerd.net.libp2p import blobs, rendezvous
from peerd.net.rendezvous import RENDEZVOUS
from peerd.net.transport import Failed, FailureReason, Fetched, Found
from peerd.testing.store import MemoryBlobs
from peerd.wire.addresses import Address, parse_address
from peerd.wire.framing import HEADER_BYTES, body_length, frame, pack, unpack
from peerd.wire.messages import BlobReply, BlobRequest, Register, Sample
from tests.fuzz import mutate
from tests.fuzz.messages import KEY, NAMES, NETWORK, OTHER_KEY, WORDS, check_addresses, messages
from tests.fuzz.stream import (
    EOF,
    OTHER_SIDE,
    RESET,
    SILENCE,
    TAKEN,
    Script,
    ScriptedHost,
    ScriptedStream,
    in_virtual_time,
    mutator,
    serve,
)
from tests.fuzz.target import Target

CONTENT = bytes(range(256)) * 5
CONTENT_DIGEST = Digest(hashlib.sha256(CONTENT).hexdigest())
BIG = bytes(range(251)) * 1200  # more than one chunk
BIG_DIGEST = Digest(hashlib.sha256(BIG).hexdigest())
FETCH_SECONDS = 300.0
WANTED = 16  # peers that a client asks a bootstrap node for


class Shelf(MemoryBlobs):
    """A shelf that notices what it is asked for."""

    def __init__(self, *contents: bytes) -> None:
        super().__init__()
        self.largest = 0
        for content in contents:
            self.put(content)

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        """Noted."""
        self.largest = max(self.largest, length)
        return super().read(digest, offset, length)


def first_message(script: Script, kind: Any, max_bytes: int) -> Any:
    """What the other side says first, as our decoder sees it; None where it does not say all of it."""
    header, rest = script.said[:HEADER_BYTES], script.said[HEADER_BYTES:]
    if len(header) < HEADER_BYTES:
        return None
    length = body_length(header, max_bytes=max_bytes)
    if isinstance(length, Refusal):
        return length
    return unpack(rest[:length], kind, max_bytes=max_bytes) if len(rest) >= length else None


def check_reading(stream: ScriptedStream, max_bytes: int, follows: int = 0) -> None:
    """Not a byte beyond a message and what follows it, and nothing behind a length that is over the limit."""
    header = stream.script.said[:HEADER_BYTES]
    length = int.from_bytes(header, "big")
    assert stream.asked <= max(max_bytes, min(follows, limits.CHUNK_BYTES))
    assert stream.taken <= HEADER_BYTES + (length + follows if length <= max_bytes else 0)


def run_blob_server(data: bytes) -> None:
    """Whoever asks rightly gets the reply and the bytes; whoever does not is reset, and counted."""
    script, counts, shelf = Script.of(data), Counter[str](), Shelf(CONTENT, BIG)
    stream = ScriptedStream(script)
    server = blobs.BlobServer(shelf, limits.TrafficLedger(), lambda what: counts.update([what]))
    done = serve(server.serve, stream)
    check_reading(stream, blobs.MAX_FRAME)
    assert shelf.largest <= limits.CHUNK_BYTES
    request = first_message(script, BlobRequest, blobs.MAX_FRAME)
    if isinstance(request, Refusal) and counts:
        assert done
        assert stream.was_reset
    assert counts == ({"blob-requests-malformed": 1} if isinstance(request, Refusal) and done else {})
    if not isinstance(request, BlobRequest):
        assert not stream.written
    elif script.is_smooth:
        assert done
        assert bytes(stream.written) == answer_to(request)


def answer_to(request: BlobRequest) -> bytes:
    """All that the protocol says to write."""
    content = {CONTENT_DIGEST: CONTENT, BIG_DIGEST: BIG}.get(request.blob)
    if content is None:
        reply, follows = BlobReply(status="absent"), b""
    elif request.offset > len(content):
        reply, follows = BlobReply(status="bad-offset", size=len(content)), b""
    else:
        reply, follows = BlobReply(status="ok", size=len(content)), content[request.offset :]
    return frame(pack(reply), max_bytes=blobs.MAX_FRAME) + follows


async def _reached(_: PeerId) -> bool:
    return True


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Instead of a thread, for which virtual time would not wait."""
    return function(*arguments)


def run_blob_client(data: bytes) -> None:
    """The blob is there and is right, or it is not there and the reason is right."""
    script, shelf = Script.of(data), Shelf()
    host = ScriptedHost(script)
    fetcher = blobs.BlobFetcher(host, "/blob", shelf, reach=_reached, ledger=limits.TrafficLedger())

    async def fetch() -> Fetched | Failed:
        return await fetcher.fetch(KEY.peer_id, CONTENT_DIGEST, len(CONTENT), [OTHER_SIDE], FETCH_SECONDS)

    with patch.object(trio.to_thread, "run_sync", _at_once):
        outcome = in_virtual_time(fetch)
    assert len(host.streams) <= 8
    for stream in host.streams:
        assert stream.closed or stream.was_reset or script.writes == 1
        check_reading(stream, blobs.MAX_FRAME, follows=len(CONTENT))
    assert shelf.partial_size(CONTENT_DIGEST) <= len(CONTENT)
    held = shelf.size(CONTENT_DIGEST)
    if isinstance(outcome, Fetched):
        assert shelf.read(CONTENT_DIGEST, 0, len(CONTENT)) == CONTENT
        return
    assert held is None
    assert outcome.reason in get_args(FailureReason)
    if script.is_smooth and script.ending != SILENCE:
        reply = first_message(script, BlobReply, blobs.MAX_FRAME)
        assert outcome.reason in reasons_of(reply, len(script.said)), (outcome, reply)


def reasons_of(reply: Any, said: int) -> set[str]:
    """What a fetch of CONTENT may fail with."""
    match reply:
        case None:
            return {"unreachable"}
        case Refusal() | BlobReply(status="bad-offset", size=1280):
            return {"refused"}
        case BlobReply(status="absent"):
            return {"absent"}
        case BlobReply(status="busy"):
            return {"busy"}
        case BlobReply(size=size) if size != len(CONTENT):
            return {"oversize"}
    return {"corrupt"} if said > len(CONTENT) + HEADER_BYTES + 30 else {"corrupt", "unreachable"}


def run_bootstrap_server(data: bytes) -> None:
    """One answer for one question: a sample, or why not; what it holds can be dialled."""
    script = Script.of(data)
    before = Register(network=NETWORK, addresses=("/ip4/192.0.2.1/tcp/1", "/dns4/a.example/tcp/2"))
    state, _ = register(State(), 0.0, OTHER_KEY.peer_id, "192.0.2.1", before, Random(1))
    service = Rendezvous(state, lambda: 1.0, Random(1))
    stream = ScriptedStream(script)
    done = serve(service.serve, stream)
    check_reading(stream, RENDEZVOUS.max_request_bytes)
    if not stream.written:
        is_cut_off = stream.was_reset and service.counts == {exchanges.BROKEN: 1}
        assert not done or script.writes != TAKEN or is_cut_off
        return
    sample = first_message(Script(0, 0, b"", bytes(stream.written)), Sample, RENDEZVOUS.max_answer_bytes)
    assert isinstance(sample, Sample)
    check_addresses(sample)
    request = first_message(script, Register, RENDEZVOUS.max_request_bytes)
    expected = "ok" if isinstance(request, Register) else "bad-request"
    assert sample.status == expected
    assert len(service.state.registrations) == (2 if expected == "ok" else 1)
    if isinstance(request, Register):
        assert len(sample.peers) == min(request.want, 1 if request.network == NETWORK else 0)
    of_the_stream = (exchanges.OVERSIZE, exchanges.BROKEN)
    assert sum(count for what, count in service.counts.items() if what not in of_the_stream) == 1


def run_bootstrap_client(data: bytes) -> None:
    """A sample whose peers can be dialled, or a failure."""
    script = Script.of(data)
    host = ScriptedHost(script)
    node = parse_address(f"/ip4/192.0.2.9/tcp/4001/p2p/{OTHER_SIDE}")
    assert isinstance(node, Address)
    message = Register(network=NETWORK, addresses=())

    async def ask() -> Sample | Failed:
        return await rendezvous.ask(host, node, message)

    answer = in_virtual_time(ask)
    for stream in host.streams:
        check_reading(stream, RENDEZVOUS.max_answer_bytes)
    if isinstance(answer, Failed):
        assert answer.reason in {"unreachable", "refused", "timeout"}
        if script.is_smooth and isinstance(first_message(script, Sample, RENDEZVOUS.max_answer_bytes), Refusal):
            assert answer.reason == "refused"
        return
    check_addresses(answer)
    told: list[Found] = []
    _tell_all(answer, told.append, WANTED)
    assert len(told) <= WANTED
    assert all(found.addresses for found in told)


def framed_message(message: Any) -> bytes:
    """As it travels."""
    return frame(pack(message), max_bytes=1 << 20)


def playing(*conversations: bytes) -> Callable[[], Iterator[bytes]]:
    """Each as a whole, in pieces, with pauses, cut off; with every end and every fate of our writes."""

    def seeds() -> Iterator[bytes]:
        for said in conversations:
            yield Script(EOF, 0, b"", said).bytes()
        said = conversations[0]
        for ending in range(4):
            yield Script(ending, 0, b"\1\2\3", said[: len(said) // 2]).bytes()
            yield Script(RESET, ending, b"", said).bytes()
        yield Script(EOF, 0, b"\0", said).bytes()
        yield Script(EOF, 0, b"\xe0", said).bytes()  # a minute before each byte
        yield Script(SILENCE, 0, b"\xa2", said).bytes()
        yield Script(EOF, 0, b"", b"\x80\0\0\0" + said).bytes()  # 2^31
        yield Script(EOF, 0, b"", b"\xff\xff\xff\xff").bytes()

    return seeds


def _target(name: str, run: Callable[[bytes], None], max_bytes: int, *conversations: bytes) -> Target:
    change = mutator(mutate.framed(mutate.msgpack_trees(NAMES, WORDS)))
    return Target(
        name=name, run=run, seeds=playing(*conversations), max_bytes=max_bytes, mutate=change, words=WORDS,
        peak_bytes=4 << 20,
    )  # fmt: skip


def _registers() -> list[bytes]:
    found = [framed_message(message) for message in messages() if isinstance(message, Register)]
    return [*found, framed_message(Register(network="c" * 64, addresses=("/ip4/192.0.2.5/tcp/7",)))]


def _samples() -> list[bytes]:
    return [framed_message(message) for message in messages() if isinstance(message, Sample)]


_RIGHT = framed_message(BlobReply(status="ok", size=len(CONTENT)))
TARGETS = (
    _target(
        "blob-server", run_blob_server, 700,
        framed_message(BlobRequest(blob=CONTENT_DIGEST)),
        framed_message(BlobRequest(blob=BIG_DIGEST, offset=7)),
        framed_message(BlobRequest(blob=CONTENT_DIGEST, offset=len(CONTENT))),
        framed_message(BlobRequest(blob=CONTENT_DIGEST, offset=len(CONTENT) + 1)),
        framed_message(BlobRequest(blob=Digest("d" * 64))),
        framed_message(BlobReply(status="ok")),
    ),
    _target(
        "blob-client", run_blob_client, 2000,
        _RIGHT + CONTENT,
        _RIGHT + CONTENT[:-1] + b"x",
        _RIGHT + CONTENT + b"more",
        _RIGHT + CONTENT[:500],
        framed_message(BlobReply(status="absent")),
        framed_message(BlobReply(status="busy")),
        framed_message(BlobReply(status="bad-offset", size=len(CONTENT))),
        framed_message(BlobReply(status="ok", size=2**53)),
    ),
    _target("bootstrap-server", run_bootstrap_server, 4200, *_registers()),
    _target("bootstrap-client", run_bootstrap_client, 4200, *_samples()),
)  # fmt: skip
