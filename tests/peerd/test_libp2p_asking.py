"""The answering side of an exchange against an asker that plays by no rules, in virtual time."""

from __future__ import annotations

from collections import Counter

import msgspec
import trio
import trio.testing

from peerd.net import exchanges
from peerd.net.exchanges import EARLY_BYTES, Asked, Exchange
from peerd.net.libp2p.asking import Answering
from peerd.wire.framing import HEADER_BYTES, frame
from tests.fuzz.stream import EOF, SILENCE, Script, ScriptedStream, serve

LARGE = Exchange(protocol="/test/1", max_request_bytes=10 * EARLY_BYTES, max_answer_bytes=100, patience_seconds=10.0)
SMALL = msgspec.structs.replace(LARGE, max_request_bytes=100)


async def thanks(_: Asked) -> bytes:
    return b"thanks"


def answering(exchange: Exchange, counts: Counter[str], *, neighbours: bool = True) -> Answering:
    return Answering(exchange, thanks, lambda what: counts.update([what]), is_neighbour=lambda _: neighbours)


def asked(data: bytes, ending: int = EOF, exchange: Exchange = SMALL, *, neighbours: bool = True):
    counts, stream = Counter[str](), ScriptedStream(Script(ending, 0, b"", data))
    assert serve(answering(exchange, counts, neighbours=neighbours).serve, stream)
    return stream, counts


def test_nothing_behind_a_length_that_is_too_large_is_read() -> None:
    stream, counts = asked((101).to_bytes(HEADER_BYTES, "big") + bytes(101))

    assert stream.taken == HEADER_BYTES
    assert bytes(stream.written) == frame(b"thanks", max_bytes=100)  # it is for the answerer to say what it thinks
    assert counts == {exchanges.OVERSIZE: 1}


def test_an_asker_that_falls_silent_or_ends_too_early_is_cut_off_and_counted() -> None:
    for said, ending in ((b"\0\0", SILENCE), (b"\0\0\0\x09ab", SILENCE), (b"\0\0\0\x09ab", EOF), (b"", EOF)):
        stream, counts = asked(said, ending)

        assert stream.was_reset
        assert not stream.written
        assert counts == {exchanges.BROKEN: 1}


def test_a_stranger_is_not_even_read() -> None:
    stream, counts = asked(frame(b"question", max_bytes=100), neighbours=False)

    assert (stream.taken, bytes(stream.written), stream.closed) == (0, b"", True)
    assert counts == {exchanges.OF_STRANGERS: 1}


def test_a_large_question_is_read_when_its_turn_has_come_and_a_slow_asker_of_a_small_one_holds_none() -> None:
    """Else a crowd would fill the memory with questions, or all turns with silence."""
    large = frame(bytes(2 * EARLY_BYTES), max_bytes=LARGE.max_request_bytes)

    async def main() -> None:
        counts = Counter[str]()
        server = answering(msgspec.structs.replace(LARGE, at_once=1, patience_seconds=60.0), counts)
        silent, waiting, small = (
            ScriptedStream(Script(ending, 0, b"", said))
            for ending, said in ((SILENCE, large[:-1]), (EOF, large), (SILENCE, b"\0\0\0\x09ab"))
        )
        async with trio.open_nursery() as crowd:
            crowd.start_soon(server.serve, small)
            crowd.start_soon(server.serve, silent)
            await trio.sleep(1.0)
            await server.serve(waiting)

            assert waiting.taken == HEADER_BYTES
            assert not waiting.written
            assert counts == {exchanges.UNSERVED: 1}
            crowd.cancel_scope.cancel()

        alone = ScriptedStream(Script(SILENCE, 0, b"", large))
        await server.serve(alone)
        assert bytes(alone.written) == frame(b"thanks", max_bytes=100)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
