"""Frames between the daemon and its worker."""

import asyncio
import io

import pytest

from peerd.worker import framing
from peerd.worker.child import framed
from peerd.worker.messages import Close, Encode, JobFailed, JobProgress, ReadAgain, Reread


def test_messages_come_out_as_they_went_in_and_in_order():
    wire = framing.jobs()
    sent = [Encode(id=1, codec="bf16"), Reread(id=2), Close(id=3)]

    pipe = io.BytesIO(b"".join(map(wire.pack, sent)))

    assert [wire.read(pipe) for _ in range(4)] == [*sent, None]


@pytest.mark.parametrize("kept", [1, 3, 5, 9])
def test_a_frame_cut_short_is_the_end_of_the_pipe(kept):
    wire = framing.jobs()
    cut = wire.pack(Encode(id=1, codec="bf16"))[:kept]

    async def read():
        stream = asyncio.StreamReader()
        stream.feed_data(cut)
        stream.feed_eof()
        return await wire.read_async(stream)

    assert wire.read(io.BytesIO(cut)) is None
    assert asyncio.run(read()) is None


@pytest.mark.parametrize(
    "received",
    [
        (framing.MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x08\x81\xa4type\xa1X",
        b"\x00\x00\x00\x11\x83\xa4type\xa5Close\xa2id\x01\xa1\xff",
        b"\x00\x00\x00\x08\x81\xa4type\xa1\xff",
    ],
)
def test_bytes_that_are_no_message_are_not_believed(received):
    with pytest.raises(framing.GarbledError):
        framing.jobs().read(io.BytesIO(received))


def test_a_message_over_the_limit_is_not_sent():
    with pytest.raises(ValueError, match="over the limit"):
        framing.jobs().pack(Encode(id=1, codec="x" * framing.MAX_FRAME_BYTES))


@pytest.mark.parametrize("told", ["/home/caf\udce9.txt", "x" * framing.MAX_FRAME_BYTES])
def test_an_answer_that_cannot_be_sent_is_a_failed_job(told):
    answer = ReadAgain(id=7, changed=True, fingerprint="f", report=[told])
    note = JobProgress(id=7, activity="waiting", done=0, total=0, trouble=told)

    failed = framing.answers().read(io.BytesIO(framed(framing.jobs(), answer)))

    assert isinstance(failed, JobFailed)
    assert (failed.id, failed.code) == (7, "bug")
    assert "the answer cannot be sent: ReadAgain" in failed.message
    assert framed(framing.jobs(), note) == b""
