"""Target: the pipes between daemon and worker, read both ways. Native code may print into them, and workers are killed."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from p2pfinetune.names import PeerId, Round
from p2pfinetune.round.figures import RoundFigures
from peerd.config import Config
from peerd.worker import framing, messages
from tests.fuzz import mutate
from tests.fuzz.target import Target


class Pipe(io.BytesIO):
    """Notes what is asked for."""

    asked = 0

    def read(self, size: int | None = -1) -> bytes:
        """As a pipe."""
        assert size is not None
        assert size >= 0
        self.asked = max(self.asked, size)
        return super().read(size)


def run_pipe(data: bytes) -> None:
    """Both ways of reading see the same messages of either family, and end at the first bytes that are none."""
    wire: Any = framing.jobs() if data[:1] < b"\x80" else framing.answers()
    family = messages.AnyJob if data[:1] < b"\x80" else messages.AnyAnswer
    pipe = Pipe(data[1:])
    found = drained(lambda: wire.read(pipe))
    assert pipe.asked <= framing.MAX_FRAME_BYTES
    stream = asyncio.StreamReader(loop=_loop())
    stream.feed_data(data[1:])
    stream.feed_eof()
    again = drained(lambda: finished(wire.read_async(stream)))
    assert [wire.pack(message) for message in again] == [wire.pack(message) for message in found]
    for message in found:
        assert isinstance(message, family)
        assert wire.pack(wire.unpack(wire.pack(message)[framing.LENGTH_BYTES :])) == wire.pack(message)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Never run: a stream that has ended makes nobody wait."""
    return asyncio.new_event_loop()


def drained(read: Callable[[], Any]) -> list[Any]:
    """Messages up to the end, or to what is no message."""
    found = []
    try:
        while (message := read()) is not None:
            found.append(message)
    except framing.GarbledError:
        pass
    return found


def finished(coroutine: Any) -> Any:
    """The value of a coroutine that does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def pipe_seeds() -> Iterator[bytes]:
    """Messages of both directions, and bytes of a C library that printed into the pipe."""
    me = PeerId("me")
    jobs: list[Any] = [
        messages.Open(id=0, config=Config(), cache="/c", scratch="/s", splits="/d", me=me, checkpoint=None,
                      best="/b", best_guard=3.5),
        messages.TrainSteps(id=1, round=Round(3), steps=20),
        messages.Encode(id=2, codec="bf16"),
        messages.AdmitUpdate(id=3, path="/x", codec="int8"),
        messages.CollaborateWith(id=4, round=Round(3), updates=[messages.UpdateFile(peer=me, path="/x", codec="fp32")]),
        messages.AssembleFrom(id=4, updates=[messages.UpdateFile(peer=me, path="/x", codec="fp32")], gates={me: "/g"}),
        messages.Generate(id=5, prompt="é", max_tokens=3, temperature=0.5, seed=-1),
        messages.Close(id=6),
    ]  # fmt: skip
    answers: list[Any] = [
        messages.JobFailed(id=1, code="worker", message="m"),
        messages.JobProgress(id=1, activity="training", done=3, total=20, loss=3.25),
        messages.Admitted(id=1),
        messages.NotAdmitted(id=1, reason="norm"),
        messages.Merged(id=1, checkpoint="/c", best=None, best_guard=1.0, row={me: 1.0}, accepted=True, reason="",
                        figures=RoundFigures(guard_base=1.0, guard_own=1.0, guard_personal=1.0)),
        messages.ReadAgain(id=1, changed=True, fingerprint="f", report=["a"]),
    ]  # fmt: skip
    for head, wire, family in ((b"\0", framing.jobs(), jobs), (b"\xff", framing.answers(), answers)):
        packed = [wire.pack(message) for message in family]
        yield from (head + one for one in packed)
        yield head + b"".join(packed)[:900]
        yield head + packed[-1] + b"OMP: Warning #96"
        yield head + (framing.MAX_FRAME_BYTES + 1).to_bytes(4, "big")
        yield head + framing.MAX_FRAME_BYTES.to_bytes(4, "big")
    yield b"\0\0\0\0\x11\x83\xa4type\xa5Close\xa2id\1\xa1x\xa1\xff"  # text that is no UTF-8


TARGETS = (
    Target(
        name="worker-pipe",
        run=run_pipe,
        seeds=pipe_seeds,
        max_bytes=6000,
        mutate=mutate.framed(mutate.msgpack_trees(["id", "type"]), head=1),
        peak_bytes=8 << 20,
    ),
)
