"""Both sides of an exchange (`peerd.net.exchanges`) on a libp2p stream of its own.

A stream for each question, so that flow control, cancelling and the end of the answer come from the muxer and nothing
has to be numbered. The answering side goes through four steps, each with a bound of its own:

    length (judged before a byte behind it is read) --> a short question --> a turn --> a long question
        --> the answerer, in the exchange's patience --> the answer, in the exchange's bound

Short questions are read before the turn, so that who speaks slowly holds none; long ones after it, so that a crowd
cannot have them all kept in memory. What the answerer does wrong is counted as ours and costs the asker nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.network.stream.exceptions import StreamEOF

from p2pfinetune.names import PeerId, Refusal
from peerd.net import exchanges, limits
from peerd.net.exchanges import Answerer, Asked, Exchange
from peerd.net.libp2p.dialling import says_no
from peerd.net.libp2p.frames import opened, place_of, read_exactly
from peerd.net.libp2p.guard import NETWORK_ERRORS, contained
from peerd.net.libp2p.turns import Turns
from peerd.net.transport import Failed
from peerd.wire.framing import HEADER_BYTES, body_length, frame


async def ask(host: Any, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
    """Ask a peer to which a connection is. Nothing past the exchange's bound is read, nothing is raised.

    Reasons: `oversize` (the request, or the answer), `refused` (it does not speak the protocol), `busy` (it ends
    without an answer), `unreachable` (it breaks off), `timeout`.
    """
    if len(request) > exchange.max_request_bytes:
        return Failed("oversize", f"a question of {len(request)} bytes, at most {exchange.max_request_bytes}")
    try:
        with trio.fail_after(exchange.patience_seconds):
            async with opened(host, peer, exchange.protocol) as stream:
                await stream.write(frame(request, max_bytes=exchange.max_request_bytes))
                return await _answer(stream, exchange.max_answer_bytes)
    except StreamFailure as error:
        if says_no(error):
            return Failed("refused", "does not speak that protocol")
        return Failed("unreachable", "connects, and breaks off when it is asked")
    except trio.TooSlowError:
        return Failed("timeout", f"does not answer within {exchange.patience_seconds:g} s")
    except NETWORK_ERRORS as error:
        return Failed("unreachable", f"breaks off ({type(error).__name__})")


async def _answer(stream: Any, max_bytes: int) -> bytes | Failed:
    first = b""
    with suppress(StreamEOF, EOFError):
        first = await stream.read(1)
    if not first:
        return Failed("busy", "ends without an answer")
    length = body_length(first + await read_exactly(stream, HEADER_BYTES - 1), max_bytes=max_bytes)
    if isinstance(length, Refusal):
        return Failed("oversize", f"answers with {length.detail}")
    return await read_exactly(stream, length)


class Answering:
    """The answering side of one exchange on one host; `serve` is its stream handler."""

    def __init__(
        self,
        exchange: Exchange,
        answerer: Answerer,
        count: Callable[[str], None],
        *,
        is_neighbour: Callable[[PeerId], bool] = lambda _: False,
        sent: Callable[[PeerId, int, int], None] = lambda _peer, _in, _out: None,
    ) -> None:
        """`count` is told a word of `peerd.net.exchanges`; `sent` the bytes in and out of each that was answered."""
        self._exchange, self._answerer, self._count = exchange, answerer, count
        self._is_neighbour, self._sent = is_neighbour, sent
        self._turns = Turns(exchange.at_once, min(exchange.patience_seconds / 2, limits.UPLOAD_PATIENCE_SECONDS))

    async def serve(self, stream: Any) -> None:
        """One question on one stream. Never raises because of what is asked or how."""
        peer = PeerId(str(stream.muxed_conn.peer_id))
        try:
            if self._exchange.for_anybody or self._is_neighbour(peer):
                await self._serve(stream, peer)
            else:
                self._count(exchanges.OF_STRANGERS)
                await _close(stream)
        except NETWORK_ERRORS:
            self._count(exchanges.BROKEN)
            await _reset(stream)

    async def _serve(self, stream: Any, peer: PeerId) -> None:
        with trio.fail_after(self._exchange.patience_seconds):
            header = await read_exactly(stream, HEADER_BYTES)
            length = body_length(header, max_bytes=self._exchange.max_request_bytes)
            is_early = isinstance(length, int) and length <= exchanges.EARLY_BYTES
            early = await read_exactly(stream, length) if isinstance(length, int) and is_early else b""
        if isinstance(length, Refusal):
            self._count(exchanges.OVERSIZE)
        async with self._turns.of(peer, place_of(stream)) as mine:
            if not mine:
                self._count(exchanges.UNSERVED)
                await _close(stream)
                return
            with trio.fail_after(self._exchange.patience_seconds):
                late = await read_exactly(stream, length) if isinstance(length, int) and not is_early else b""
            request = length if isinstance(length, Refusal) else early or late
            await self._say(stream, Asked(peer, place_of(stream), request))

    async def _say(self, stream: Any, asked: Asked) -> None:
        answer = await self._thought(asked)
        if isinstance(answer, Refusal):
            self._count(exchanges.FAILED)
            await _close(stream)
            return
        with trio.fail_after(self._exchange.patience_seconds):
            if answer is not None:
                await stream.write(frame(answer, max_bytes=self._exchange.max_answer_bytes))
            await stream.close()
        heard = len(asked.request) if isinstance(asked.request, bytes) else 0
        self._sent(asked.peer, heard, len(answer or b""))

    async def _thought(self, asked: Asked) -> bytes | Refusal | None:
        """What the answerer says; a refusal if it is at fault. Nobody else pays for that."""
        answer: bytes | None = None
        with trio.move_on_after(self._exchange.patience_seconds) as patience, contained() as held:
            answer = await self._answerer(asked)
        if held.failure is not None or patience.cancelled_caught:
            return Refusal("failed", f"{held.failure!r}")
        if answer is not None and len(answer) > self._exchange.max_answer_bytes:
            return Refusal("oversize", f"an answer of {len(answer)} bytes")
        return answer


async def _close(stream: Any) -> None:
    with trio.move_on_after(1):
        await stream.close()


async def _reset(stream: Any) -> None:
    with trio.move_on_after(1), contained():
        await stream.reset()
