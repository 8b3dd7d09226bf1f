"""Length-prefixed MessagePack between the daemon and its worker: four bytes of length, then one tagged message.

Both ends are ours, but a length is still checked before anything is read by it: bytes that are no frame mean that
something other than the protocol wrote to the pipe, and the child is then restarted rather than believed. It is not
multiprocessing's own pipe, because that one pickles: the child decodes what strangers sent, and a child that was taken
over must not be able to run code in the daemon, which holds the key.

Nothing here knows what a message means, and no tensor passes through.
"""

from __future__ import annotations

import asyncio
from typing import BinaryIO, Generic, TypeVar

import msgspec

from p2pfinetune.errors import UNREADABLE
from peerd.worker.messages import AnyAnswer, Sent

Message = TypeVar("Message", Sent, AnyAnswer)

MAX_FRAME_BYTES = 4 * 2**20  # a job names files, an answer holds at most some pages of generated text
LENGTH_BYTES = 4


class GarbledError(Exception):
    """What came through the pipe is not a message of ours."""


class Framing(Generic[Message]):
    """Packs any message, unpacks one family of them."""

    def __init__(self, family: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(family)
        self._encoder = msgspec.msgpack.Encoder()

    def pack(self, message: msgspec.Struct) -> bytes:
        """The frame of one message. Raises ValueError for one that is too big to send."""
        body = self._encoder.encode(message)
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME_BYTES}")
        return len(body).to_bytes(LENGTH_BYTES, "big") + body

    def unpack(self, body: bytes) -> Message:
        """The message in a frame's body."""
        try:
            return self._decoder.decode(body)  # type: ignore[no-any-return]
        except UNREADABLE as error:
            raise GarbledError(f"{len(body)} bytes are no message: {error}") from error

    def read(self, pipe: BinaryIO) -> Message | None:
        """The next message, waiting for it; None at the end of the pipe."""
        length = pipe.read(LENGTH_BYTES)
        if len(length) < LENGTH_BYTES:
            return None
        size = checked_length(length)
        body = pipe.read(size)
        return self.unpack(body) if len(body) == size else None

    async def read_async(self, stream: asyncio.StreamReader) -> Message | None:
        """The next message, waiting for it; None at the end of the stream, even in the middle of a message."""
        try:
            length = await stream.readexactly(LENGTH_BYTES)
            body = await stream.readexactly(checked_length(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return self.unpack(body)


def checked_length(length: bytes) -> int:
    """The length that a frame claims, refused above the limit."""
    size = int.from_bytes(length, "big")
    if size > MAX_FRAME_BYTES:
        raise GarbledError(f"a frame claims {size} bytes, the limit is {MAX_FRAME_BYTES}")
    return size


def jobs() -> Framing[Sent]:
    """What the worker reads."""
    return Framing(Sent)


def answers() -> Framing[AnyAnswer]:
    """What the daemon reads."""
    return Framing(AnyAnswer)
