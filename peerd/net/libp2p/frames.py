"""Messages on a libp2p stream: length-prefixed, capped before they are read, each with a deadline.

A stream is one conversation: who opened it closes it, or resets it if that failed, since a peer has only so many. A
deadline stands around each message and not around a conversation, so a long transfer may take
its time and a peer that says half a length may not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from libp2p.connection_types import ConnectionType
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID

from p2pfinetune.names import PeerId, Refusal
from peerd.net import limits
from peerd.net.libp2p.guard import NETWORK_ERRORS, contained
from peerd.wire.framing import HEADER_BYTES, Message, body_length, frame, pack, unpack
from peerd.wire.places import place_behind
from peerd.wire.places import place_of as place_of_host

OPEN_SECONDS = 8.0  # for a new stream: three round trips
ANSWER_SECONDS = 10.0  # for one short message, either way


@asynccontextmanager
async def opened(host: Any, peer: PeerId, protocol: str) -> AsyncIterator[Any]:
    """A new stream, closed at the end and reset on failure. Raises guard.NETWORK_ERRORS, whatever the peer answers."""
    stream: Any = None
    with trio.fail_after(OPEN_SECONDS), contained() as held:
        stream = await host.new_stream(ID.from_string(peer), [protocol])
    if isinstance(held.failure, NETWORK_ERRORS):
        raise held.failure
    if held.failure is not None:
        raise StreamFailure(f"{type(held.failure).__name__}: {held.failure}") from held.failure
    finished = False
    try:
        yield stream
        finished = True
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1):
            await (stream.close() if finished else stream.reset())


async def read_exactly(stream: Any, length: int) -> bytes:
    """That many bytes. Raises EOFError if the stream ends before."""
    data = bytearray()
    while len(data) < length:
        part = await stream.read(length - len(data))
        if not part:
            raise EOFError("the stream ended inside a message")
        data += part
    return bytes(data)


async def read_message(stream: Any, kind: type[Message], *, max_bytes: int) -> Message | Refusal:
    """One message. Nothing past `max_bytes` is read."""
    with trio.fail_after(ANSWER_SECONDS):
        length = body_length(await read_exactly(stream, HEADER_BYTES), max_bytes=max_bytes)
        if isinstance(length, Refusal):
            return length
        body = await read_exactly(stream, length)
    return unpack(body, kind, max_bytes=max_bytes)


async def write_message(stream: Any, message: msgspec.Struct, *, max_bytes: int) -> None:
    with trio.fail_after(ANSWER_SECONDS):
        await stream.write(frame(pack(message), max_bytes=max_bytes))


def place_of(stream: Any) -> str:
    """The place at which the speaker on a stream is counted; one for all of whom it is not known."""
    remote = stream.get_remote_address()
    if not remote:
        return limits.UNKNOWN_PLACE
    if _is_relayed(stream.muxed_conn):  # then the remote address is the relay's
        return place_behind(str(remote[0]), str(stream.muxed_conn.peer_id))
    return place_of_host(str(remote[0]))


def _is_relayed(connection: Any) -> bool:
    """Beneath a group key 0.8.1 does not tell: then all behind a relay are the one place of its address."""
    try:
        return connection.get_connection_type() is ConnectionType.RELAYED
    except AttributeError:
        return False
