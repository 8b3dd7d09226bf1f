"""A stream in memory that a fuzzer drives: what the other side says, in what pieces, with what pauses, and how it ends.

The first byte holds how it ends (two bits), what becomes of our writes (two bits) and how many control bytes follow
(four bits). Each control byte is one read: how many bytes it gives at most, and how long it takes before. The rest is
what the other side says. Time is virtual, so ten seconds of silence take none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import trio
import trio.testing
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedStreamReset

from peerd.net.libp2p.guard import NETWORK_ERRORS
from peerd.wire.keys import PeerKey
from tests.fuzz import mutate
from tests.fuzz.target import Mutator

OTHER_SIDE = PeerKey(b"\7" * 32).peer_id
SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 33, 64, 128, 256, 512, 1024, 4096, 1 << 20)
PAUSES = (0.0, 0.0, 0.0, 0.5, 3.0, 9.0, 11.0, 60.0)
EOF, RESET, SILENCE, LIBRARY_EOF = range(4)
TAKEN, STOPPED_READING, BROKEN, SLOW = range(4)
MANY_SECONDS = 10_000.0  # of virtual time: nothing lasts so long


@dataclass(frozen=True, slots=True)
class Script:
    """What the other side does."""

    ending: int
    writes: int
    controls: bytes
    said: bytes

    @classmethod
    def of(cls, data: bytes) -> Script:
        """Any bytes are a script."""
        head = data[0] if data else 0
        count = head & 15
        return cls(head >> 6, head >> 4 & 3, data[1 : 1 + count], data[1 + count :])

    def bytes(self) -> bytes:
        """The bytes that are this script."""
        head = self.ending << 6 | self.writes << 4 | len(self.controls)
        return bytes([head]) + self.controls + self.said

    @property
    def seconds(self) -> float:
        """Of pauses, at most, as often as they are repeated."""
        return sum(PAUSES[control >> 5] for control in self.controls)

    @property
    def is_smooth(self) -> bool:
        """Whether everything it says arrives at once."""
        return self.seconds == 0.0 and self.writes == TAKEN and all(control & 15 > 9 for control in self.controls)


@dataclass(slots=True, eq=False)
class ScriptedStream:
    """A libp2p stream as far as our code uses one."""

    script: Script
    taken: int = 0
    """Bytes that were read."""
    asked: int = 0
    """Largest number of bytes that were asked for at once."""
    written: bytearray = field(default_factory=bytearray)
    closed: bool = False
    was_reset: bool = False
    reads: int = 0
    metric_send_channel: None = None
    protocol: Any = None

    @property
    def muxed_conn(self) -> Any:
        """Who the other side is."""
        return SimpleNamespace(peer_id=ID.from_string(OTHER_SIDE))

    def get_remote_address(self) -> tuple[str, int]:
        """Where it comes from."""
        return ("192.0.2.7", 4001)

    def set_protocol(self, protocol: Any) -> None:
        """After the negotiation."""
        self.protocol = protocol

    def get_protocol(self) -> Any:
        """As libp2p."""
        return self.protocol

    async def read(self, n: int | None = None) -> bytes:
        """The next piece."""
        assert n is not None, "a read without a bound"
        assert n > 0
        assert not self.closed
        assert not self.was_reset
        self.asked = max(self.asked, n)
        await trio.lowlevel.checkpoint()
        controls = self.script.controls
        size = SIZES[-1]
        if controls:
            control = controls[self.reads % len(controls)]
            self.reads += 1
            size = SIZES[control & 15]
            await trio.sleep(PAUSES[control >> 5])
        part = self.script.said[self.taken : self.taken + min(n, size)]
        self.taken += len(part)
        return part or await self._end()

    async def _end(self) -> bytes:
        match self.script.ending:
            case 0:
                return b""
            case 1:
                raise StreamReset("reset by the other side")
            case 2:
                await trio.sleep_forever()
        raise StreamEOF("the other side ended")

    async def write(self, data: bytes) -> None:
        """Taken, or stuck for ever, or broken, or very slow."""
        assert not self.closed
        assert not self.was_reset
        await trio.lowlevel.checkpoint()
        match self.script.writes:
            case 1:
                await trio.sleep_forever()
            case 2:
                raise MuxedStreamReset("reset by the other side")
            case 3:
                await trio.sleep(9.0)
        self.written += data

    async def close(self) -> None:
        """Our end of it; stuck where nothing is written any more."""
        if self.script.writes == STOPPED_READING:
            await trio.sleep_forever()
        self.closed = True

    async def reset(self) -> None:
        """At once."""
        self.was_reset = True


class ScriptedHost:
    """A libp2p host of a client: whatever it dials answers, and plays the script again on each new stream."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.streams: list[ScriptedStream] = []

    async def new_stream(self, peer: Any, protocols: Any) -> ScriptedStream:
        """One more."""
        await trio.lowlevel.checkpoint()
        self.streams.append(ScriptedStream(self._script))
        return self.streams[-1]

    async def connect(self, info: Any) -> None:
        """It answers."""
        await trio.lowlevel.checkpoint()

    def get_network(self) -> Any:
        """As far as dialling uses it."""
        return SimpleNamespace(unblock_peer=lambda _: None)

    def get_peerstore(self) -> Any:
        """As far as dialling uses it."""
        return SimpleNamespace(clear_addrs=lambda _: None)


def in_virtual_time(function: Callable[[], Awaitable[Any]]) -> Any:
    """What it returns; it has to come to an end by itself."""

    async def main() -> Any:
        with trio.move_on_after(MANY_SECONDS) as scope:
            found = await function()
        assert not scope.cancelled_caught, "it never ends"
        return found

    return run_again_alike(main)


def run_again_alike(main: Callable[[], Awaitable[Any]]) -> Any:
    """In virtual time, and tasks in an order that is the same each time: trio throws dice for it."""
    order = trio._core._run
    with patch.object(order, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True):
        order._r.seed(1)
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def serve(handler: Callable[[Any], Awaitable[None]], stream: ScriptedStream) -> bool:
    """One stream to one of our servers, as behind its guard; False where the network was to blame for its end.

    The guard would take any exception; only those of the network are no fault of ours.
    """

    async def main() -> bool:
        try:
            await handler(stream)
        except NETWORK_ERRORS:
            await stream.reset()
            return False
        return True

    done: bool = in_virtual_time(main)
    assert stream.closed or stream.was_reset, "the stream is left open"
    return done


def mutator(inner: Mutator) -> Mutator:
    """Another beginning, or other words in the same pieces."""
    otherwise = mutate.plain()

    def change(data: bytes, dice: Random) -> bytes:
        if not data or dice.random() < 0.1:
            return otherwise(data, dice)
        script = Script.of(data)
        if dice.random() < 0.3:
            controls = dice.randbytes(dice.choice((0, 0, 1, 2, 3, 9)))
            ending, writes = dice.randrange(4), dice.choice((0, 0, 0, 1, 2, 3))
            return Script(ending, writes, controls, script.said).bytes()
        return Script(script.ending, script.writes, script.controls, inner(script.said, dice)).bytes()

    return change
