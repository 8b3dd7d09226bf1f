"""yamux with its limits enforced: 0.8.1 announces windows and lets a peer ignore them, and has no bound on frames.

What breaks a limit ends its connection. yamux itself does so at `trio.TooSlowError` and nothing else, hence `Abuse`.

yamux (the specification is hashicorp's; libp2p specs, yamux) carries many streams over one connection in frames with a
header of 12 bytes. Flow control is for each stream: a sender may have so many bytes unread, and the receiver grants
more as it reads. Three things are missing in that, and added here:

- *The window is enforced*, not only told: bytes beyond it are memory that a stranger chose.
- *Streams that the peer opened share one bound* (`MAX_UNREAD_BYTES`), or it would open as many as it wants windows.
- *Frames that carry next to nothing are paced* (pings, window updates, new streams): no flow control counts them, and
  each costs a wake-up here. HTTP/2 servers learnt it of ping and settings floods (CVE-2019-9512, CVE-2019-9515). A
  frame that carries data, sent or received, pays for one, so an honest transfer is never slowed down by it.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from peerd.net import limits
from peerd.pacing import TokenBucket

NOISE_MESSAGE_BYTES = 65_519  # what fits one Noise message: one yamux frame each instead of 65519 + 17 bytes
FAREWELL_SECONDS = 1.0  # for what is being written when a connection is closed
FAIRNESS = 32  # frames of one connection that are taken without giving way to others


class Abuse(MuxedStreamError, trio.TooSlowError):  # type: ignore[misc]  # libp2p is untyped here
    """A peer ignores what it was granted."""


class ReceiveWindow(bytearray):
    """What has come on one stream and is not read yet."""

    def __init__(self, data: bytes | bytearray, muxer: GuardedYamux, number: int) -> None:
        super().__init__(data)
        self._muxer, self._number = muxer, number

    def extend(self, data: Any) -> None:
        """Raises Abuse if it is more than was granted."""
        self._muxer.check_window(self._number, len(data))
        super().extend(data)


class _Windows(dict[int, bytearray]):
    def __init__(self, muxer: GuardedYamux) -> None:
        super().__init__()
        self._muxer = muxer

    def __setitem__(self, stream: int, buffer: bytearray) -> None:
        super().__setitem__(stream, ReceiveWindow(buffer, self._muxer, stream))


class GuardedYamux(yamux.Yamux):  # type: ignore[misc]  # libp2p is untyped here
    """One connection: bounded bytes unread, bounded frames, small ones paced, and no waiting on who does not read.

    A task that is cancelled while its frame leaves would take the connection with it: the message is encrypted by then,
    its number is used up, and the other end can read nothing any more. So a frame that has begun to leave leaves whole,
    whatever becomes of the task that wrote it.
    """

    _writing: trio.CancelScope | None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stream_buffers = _Windows(self)
        self._small_frames = TokenBucket(limits.FRAMES_A_SECOND, limits.FRAME_BURST)
        self._taken = 0
        self._patience, self._writing = limits.WRITE_SECONDS, None
        self._read_unpaced = self.secured_conn.read
        self.secured_conn.read = self._read_paced

    def check_window(self, number: int, size: int) -> None:
        """Whether a stream may hold `size` bytes more, by what its opener was granted. Raises Abuse."""
        stream = self.streams.get(number)
        if stream is None or size > stream.recv_window + NOISE_MESSAGE_BYTES:
            raise Abuse("the peer ignores the receive window")
        if not stream.is_initiator:
            unread = sum(len(self.stream_buffers.get(n, b"")) for n, s in self.streams.items() if not s.is_initiator)
            if unread + size > limits.MAX_UNREAD_BYTES + NOISE_MESSAGE_BYTES:
                raise Abuse("the peer says more than anybody reads")

    async def _read_paced(self, size: int | None = None) -> bytes:
        """Headers are what is read in twelve bytes or less; a flood of them waits, and TCP holds its sender back."""
        if size is not None and size <= yamux.HEADER_SIZE:
            self._taken += 1
            if pause := self._small_frames.pause(trio.current_time()):
                await trio.sleep(pause)
            elif self._taken % FAIRNESS == 0:
                await trio.lowlevel.checkpoint()
        data: bytes = await self._read_unpaced(size)
        return data

    async def _read_data_body(self, length: int) -> bytes:
        if length > limits.MAX_FRAME_BYTES:
            raise Abuse(f"a frame of {length} bytes")
        if length >= limits.PAYING_FRAME_BYTES:
            self._small_frames.give_back()
        data: bytes = await super()._read_data_body(length)
        return data

    async def _write_frame(self, data: bytes) -> None:
        if len(data) >= limits.PAYING_FRAME_BYTES:
            self._small_frames.give_back()
        has_left = False
        with trio.move_on_after(self._patience) as waiting:
            async with self._write_lock:
                with trio.CancelScope(shield=True, deadline=waiting.deadline) as self._writing:
                    await self.secured_conn.write(data)
                    has_left = True
        if not has_left:  # a frame cut short cannot be mended
            await self.secured_conn.close()
            raise MuxedStreamError("the peer does not read")
        await trio.lowlevel.checkpoint()

    def hurry(self) -> None:
        """From now on nobody waits long for a peer that does not read: this end closes."""
        self._patience = FAREWELL_SECONDS
        if self._writing is not None:
            self._writing.deadline = min(self._writing.deadline, trio.current_time() + FAREWELL_SECONDS)

    async def close(self, *arguments: Any) -> None:
        self.hurry()
        await super().close(*arguments)
