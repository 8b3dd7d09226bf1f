"""The blob protocol: a request, a reply, raw bytes. Serves the shelf to others and fetches from them.

    asks:     length, BlobRequest{blob, offset}
    answers:  length, BlobReply{status, size}, then size - offset raw bytes if status is `ok`

An interrupted transfer stays on the shelf and goes on from there, from the same holder or another. The digest is
checked by the shelf; nothing here looks inside a blob.

A blob is one piece with one digest, unlike a torrent's pieces or the blocks of Bitswap. An update is some megabytes and
is fetched from one holder at a time, so hashes of pieces would buy little: only that a lie is found before the end. The
price is paid in `peerd.net.attempts`, which says whom to blame when the whole does not hash.

    fetch(digest, holders)
      held already? --------------------------------------------------------------> Fetched
      next holder by the plan --> reach, open, ask from `held()` on --> receive --> complete: it hashes ---> Fetched
          ^                                  |                                         |
          +---- why it failed, and how many bytes came: `Plan.after` <-----------------+ it does not: corrupt
          no turn left --> Failed, with the reason of the first holder

Both sides bound every wait: IDLE_SECONDS without a byte, MIN_RATE over the whole, the caller's time over all holders.
One fetch runs for a digest and one from a holder at a time; the second finds the blob held.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
from libp2p.host.exceptions import StreamFailure

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.errors import StoreError
from peerd.net import limits
from peerd.net.attempts import FetchPlan
from peerd.net.libp2p.frames import opened, place_of, read_message, write_message
from peerd.net.libp2p.guard import NETWORK_ERRORS
from peerd.net.libp2p.pace import Pace
from peerd.net.libp2p.turns import ByName, Turns
from peerd.net.transport import Failed, Fetched, Wrong
from peerd.wire.messages import BlobReply, BlobRequest
from peerd.wire.shelf import BlobShelf

MAX_FRAME = 512  # bytes of a request or reply
IDLE_SECONDS = 10.0  # without one byte
MIN_RATE = 16 * 1024  # bytes a second over a whole transfer, after a grace of IDLE_SECONDS
REPEAT_SECONDS = 0.3  # before a holder is asked again, growing


class BlobServer:
    """Hands out what is on the shelf, to each in its turn."""

    def __init__(
        self, shelf: BlobShelf, ledger: limits.TrafficLedger, count: Callable[[str], None], max_rate: int = 0
    ) -> None:
        """`max_rate` is in bytes a second, all together; 0 is no limit."""
        self._shelf, self._ledger, self._count = shelf, ledger, count
        self._turns = Turns(limits.transfers_within(limits.MAX_UPLOADS, max_rate))
        self._pace = Pace(max_rate)

    async def serve(self, stream: Any) -> None:
        """Answer one request. What goes wrong ends the stream, by the guard around every handler."""
        peer = PeerId(str(stream.muxed_conn.peer_id))
        request = await read_message(stream, BlobRequest, max_bytes=MAX_FRAME)
        if isinstance(request, Refusal):
            self._count("blob-requests-malformed")
            await stream.reset()
            return
        async with self._turns.of(peer, place_of(stream)) as mine:
            size = self._shelf.size(request.blob)
            if not mine:
                reply = BlobReply(status="busy")
            elif size is None:
                reply = BlobReply(status="absent")
            elif request.offset > size:
                reply = BlobReply(status="bad-offset", size=size)
            else:
                reply = BlobReply(status="ok", size=size)
            await write_message(stream, reply, max_bytes=MAX_FRAME)
            if reply.status == "ok":
                await self._send(stream, peer, request, reply.size)
        with trio.fail_after(IDLE_SECONDS):
            await stream.close()

    async def _send(self, stream: Any, peer: PeerId, request: BlobRequest, size: int) -> None:
        with trio.fail_after(IDLE_SECONDS + (size - request.offset) / MIN_RATE):
            for offset in range(request.offset, size, self._pace.chunk):
                data = self._shelf.read(request.blob, offset, min(self._pace.chunk, size - offset))
                with trio.fail_after(IDLE_SECONDS):
                    await stream.write(data)
                self._ledger.add(peer, bytes_out=len(data), blob=request.blob)
                await self._pace.rest(len(data))


class BlobFetcher:
    """Brings blobs into the shelf."""

    def __init__(
        self,
        host: Any,
        protocol: str,
        shelf: BlobShelf,
        *,
        reach: Callable[[PeerId], Awaitable[bool]],
        ledger: limits.TrafficLedger,
        max_rate: int = 0,
    ) -> None:
        """`reach` connects to a holder if no connection is, and tells whether there is one now."""
        self._host, self._protocol, self._shelf = host, protocol, shelf
        self._reach, self._ledger = reach, ledger
        self._turns = trio.Semaphore(limits.transfers_within(limits.MAX_DOWNLOADS, max_rate))
        self._pace = Pace(max_rate)
        self._locks = ByName(trio.Lock)

    async def fetch(
        self, me: PeerId, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float
    ) -> Fetched | Failed:
        transfer = _Transfer(self._shelf, self._ledger, self._pace, digest, size)
        try:
            with trio.fail_after(timeout_seconds):
                async with self._locks.get(digest):
                    if self._shelf.size(digest) is not None:
                        return Fetched(digest, holders[0] if holders else me, 0)
                    return await self._follow(FetchPlan.of(holders), transfer)
        except trio.TooSlowError:
            return Failed("timeout", f"not within {timeout_seconds:g} s", transfer.bytes_in, transfer.wrong)
        except (ShelfTroubleError, StoreError) as error:
            return Failed("unreachable", f"cannot be written here: {error}", transfer.bytes_in, transfer.wrong)

    async def _follow(self, plan: FetchPlan, transfer: _Transfer) -> Fetched | Failed:
        while plan.turns:
            turn = plan.turns[0]
            await trio.sleep(REPEAT_SECONDS * (turn.repeats + turn.resumes))
            started_at = transfer.held()
            async with self._locks.get(turn.holder), self._turns:
                failed = await self._ask(turn.holder, transfer)
            if failed is None:
                return Fetched(transfer.digest, turn.holder, transfer.bytes_in, transfer.wrong)
            plan = plan.after(failed, started_at=started_at, stopped_at=transfer.held())
            transfer.wrong = plan.wrong
        return plan.failure(transfer.bytes_in)

    async def _ask(self, holder: PeerId, transfer: _Transfer) -> Failed | None:
        """One request to one holder; None if the blob is complete and verified."""
        try:
            if not await self._reach(holder):
                return Failed("unreachable", "not connected")
            async with opened(self._host, holder, self._protocol) as stream:
                request = BlobRequest(blob=transfer.digest, offset=transfer.held())
                await write_message(stream, request, max_bytes=MAX_FRAME)
                reply = await read_message(stream, BlobReply, max_bytes=MAX_FRAME)
                if (refused := _judge(reply, transfer.size)) is not None:
                    return refused
                with trio.fail_after(IDLE_SECONDS + (transfer.size - request.offset) / MIN_RATE):
                    await transfer.receive(stream, holder)
        except StreamFailure as error:
            return Failed("refused", str(error))
        except trio.TooSlowError:
            return Failed("timeout", "too slow")
        except NETWORK_ERRORS as error:
            return Failed("unreachable", f"{type(error).__name__} {error}".rstrip())
        return None if await transfer.complete() else Failed("corrupt", "the bytes do not hash to the digest")


class ShelfTroubleError(Exception):
    """The own disk failed, not the network."""


class _Transfer:
    """The state of one fetch over all its holders. What is held is on the shelf; here is only what was counted."""

    def __init__(self, shelf: BlobShelf, ledger: limits.TrafficLedger, pace: Pace, digest: Digest, size: int) -> None:
        self.digest, self.size, self.bytes_in = digest, size, 0
        self.wrong: Wrong = ()
        self._shelf, self._ledger, self._pace = shelf, ledger, pace

    def held(self) -> int:
        """Bytes on the shelf; a partial longer than what was announced cannot be of this blob."""
        held = self._shelf.partial_size(self.digest)
        if held > self.size:
            self._shelf.drop_partial(self.digest)
            return 0
        return held

    async def receive(self, stream: Any, holder: PeerId) -> None:
        """Read what is missing and not a byte more; what has come is kept, however it ends."""
        held, waiting = self.held(), bytearray()
        try:
            while (missing := self.size - held - len(waiting)) > 0:
                with trio.fail_after(IDLE_SECONDS):
                    part = await stream.read(min(missing, self._pace.chunk))
                if not part:
                    raise EOFError("the stream ended inside the blob")
                waiting += part
                self.bytes_in += len(part)
                self._ledger.add(holder, bytes_in=len(part))
                await self._pace.rest(len(part))
                if len(waiting) >= limits.CHUNK_BYTES:
                    held += self._append(held, waiting)
        finally:
            self._append(held, waiting)

    async def complete(self) -> bool:
        """Hashing and fsync take their time, so not in the network's own thread."""
        try:
            return await trio.to_thread.run_sync(self._shelf.complete_partial, self.digest)
        except (OSError, StoreError) as error:
            raise ShelfTroubleError(str(error)) from error

    def _append(self, held: int, waiting: bytearray) -> int:
        """Move the waiting bytes to the shelf; how many there were."""
        data = bytes(waiting)
        waiting.clear()
        try:
            taken = not data or self._shelf.append_partial(self.digest, held, data)
        except (OSError, StoreError) as error:
            raise ShelfTroubleError(str(error)) from error
        if not taken:  # it gave way to others
            raise ShelfTroubleError("what was held of it is gone")
        return len(data)


def _judge(reply: BlobReply | Refusal, size: int) -> Failed | None:
    """Why no bytes follow that are worth reading."""
    match reply:
        case Refusal(reason, detail):
            return Failed("refused", f"answered nonsense: {reason} {detail}")
        case BlobReply(status="absent"):
            return Failed("absent")
        case BlobReply(status="busy"):
            return Failed("busy")
        case BlobReply(size=other) if other != size:
            return Failed("oversize", f"{other} bytes, {size} announced")
        case BlobReply(status="bad-offset"):
            return Failed("refused", "answered nonsense: bad offset")
    return None
