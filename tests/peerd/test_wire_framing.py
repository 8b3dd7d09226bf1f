from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Refusal
from peerd.wire.framing import HEADER_BYTES, MAX_ITEMS, body_length, frame, pack, unpack, unpack_plain
from peerd.wire.messages import BlobReply, BlobRequest, PeerRecord, Register, Sample

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
MESSAGES = [
    BlobRequest(blob="b" * 64, offset=7),
    BlobReply(status="ok", size=2**40),
    Register(network="a" * 64, addresses=("/ip4/127.0.0.1/tcp/1",), want=3),
    Sample(status="ok", peers=(PeerRecord(peer=PEER, addresses=("/ip4/1.2.3.4/tcp/5",)),), expires_seconds=600),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_comes_back_from_its_bytes(message):
    data = pack(message)

    assert unpack(data, type(message), max_bytes=len(data)) == message
    assert unpack(data, type(message), max_bytes=len(data) - 1).reason == "oversize"


def test_the_bytes_of_a_request_are_these():
    assert pack(BlobRequest(blob="b" * 64, offset=7)).hex() == (
        "83a474797065ac626c6f622d72657175657374a4626c6f62d940" + "62" * 64 + "a66f666673657407"
    )


def test_the_largest_sample_fits_what_is_read_of_it():
    record = PeerRecord(peer="p" * 128, addresses=("a" * 256,) * 8)
    data = pack(Sample(status="ok", peers=(record,) * 64))

    assert len(data) < 192 * 1024
    assert isinstance(unpack(data, Sample, max_bytes=192 * 1024), Sample)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of 4 294 967 295
        b"\xdf\xff\xff\xff\xff",  # a map of as many
        b"\xdb\xff\xff\xff\xff",  # a text
        b"\xc6\xff\xff\xff\xff",  # bytes
        b"\xc9\xff\xff\xff\xff\x01",  # an extension
        b"\xdc\x00\x81" + b"\x01" * 129,
        b"\xa2\xff\xfe",  # no UTF-8
        b"\x81\xc0\x01",  # None as a key
    ],
)
def test_a_length_that_lies_costs_nothing(data):
    assert unpack_plain(data, max_bytes=4096).reason == "malformed"


def test_no_more_items_than_the_limit():
    assert unpack_plain(msgpack.packb([1] * MAX_ITEMS), max_bytes=4096) == [1] * MAX_ITEMS
    assert isinstance(unpack_plain(msgpack.packb([1] * (MAX_ITEMS + 1)), max_bytes=4096), Refusal)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_unpacking_never_raises(data):
    for message in MESSAGES:
        assert isinstance(unpack(data, type(message), max_bytes=200), Refusal)


def test_a_frame_is_its_length_and_its_body():
    assert frame(b"abc", max_bytes=3) == b"\x00\x00\x00\x03abc"
    assert body_length(b"\x00\x00\x00\x03", max_bytes=3) == 3


def test_a_frame_that_is_too_long_is_refused_by_its_header():
    assert body_length(b"\x00\x00\x00\x04", max_bytes=3).reason == "oversize"
    assert body_length(b"\xff\xff\xff\xff", max_bytes=4096).reason == "oversize"
    assert body_length(b"\x00\x00", max_bytes=3).reason == "truncated"
    with pytest.raises(ValueError, match="at most 3"):
        frame(b"abcd", max_bytes=3)


@settings(deadline=None)
@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES), st.integers(0, 2**20))
def test_a_length_within_the_limit_or_a_refusal(header, limit):
    length = body_length(header, max_bytes=limit)

    assert isinstance(length, Refusal) or 0 <= length <= limit


def test_a_message_that_does_not_say_its_type_is_refused():
    assert unpack(msgpack.packb({"status": "ok", "size": 1}), BlobReply, max_bytes=200).reason == "bad-message"
    assert unpack(msgpack.packb([1]), BlobReply, max_bytes=200).reason == "bad-message"
