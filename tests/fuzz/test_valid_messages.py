"""Every message that can be said is understood, and nothing that differs from it by a byte is taken for it."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Refusal
from peerd.wire.envelope import open_announcement, seal
from peerd.wire.framing import pack, unpack
from peerd.wire.messages import (
    MAX_ADDRESS,
    MAX_ADDRESSES,
    MAX_NAME,
    Announcement,
    BlobReply,
    BlobRequest,
    MiddleReply,
    MiddleRequest,
    PeerRecord,
    Register,
    Sample,
)
from tests.fuzz.messages import KEY, KINDS

bounded = settings(max_examples=60, deadline=None, derandomize=True, database=None)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
counts = st.integers(0, 2**53)
addresses = st.lists(st.text(min_size=1, max_size=MAX_ADDRESS), max_size=MAX_ADDRESSES).map(tuple)
announcements = st.builds(
    Announcement,
    network=digests,
    peer=st.just(KEY.peer_id),
    epoch=counts,
    sequence=counts,
    time=counts,
    round=counts,
    codec=st.text(min_size=1, max_size=32),
    size=st.integers(1, 2**40),
    blob=digests,
    name=st.text(max_size=MAX_NAME),
    addresses=st.lists(st.text(min_size=1, max_size=64), max_size=3).map(tuple),
)
records = st.builds(PeerRecord, peer=st.text(min_size=8, max_size=128), addresses=addresses)
messages = st.one_of(
    announcements,
    st.builds(BlobRequest, blob=digests, offset=counts),
    st.builds(BlobReply, status=st.sampled_from(["ok", "absent", "busy", "bad-offset"]), size=counts),
    st.builds(MiddleRequest, mine=digests, yours=digests),
    st.builds(
        MiddleReply,
        status=st.sampled_from(["ok", "not-chosen", "busy", "absent", "again"]),
        sketch=st.binary(max_size=64),
    ),
    st.builds(Register, network=digests, addresses=addresses, want=st.integers(0, 64)),
    st.builds(
        Sample,
        status=st.sampled_from(["ok", "quota", "full", "bad-request"]),
        peers=st.lists(records, max_size=4).map(tuple),
        expires_seconds=st.integers(0, 86_400),
    ),
)


@given(messages)
@bounded
def test_every_message_is_understood_as_its_kind_and_as_no_other(message: msgspec.Struct) -> None:
    data = pack(message)

    for kind in KINDS:
        found = unpack(data, kind, max_bytes=len(data))
        assert found == message if isinstance(message, kind) else isinstance(found, Refusal)


@given(announcements, st.data())
@bounded
def test_an_envelope_opens_as_it_was_sealed_and_not_with_one_bit_changed(announcement: Announcement, draws) -> None:
    envelope = seal(KEY, announcement)
    assert open_announcement(envelope) == announcement

    bit = draws.draw(st.integers(0, 8 * len(envelope) - 1))
    changed = bytearray(envelope)
    changed[bit // 8] ^= 1 << bit % 8
    assert isinstance(open_announcement(bytes(changed)), Refusal)
    assert isinstance(open_announcement(envelope[: bit // 8]), Refusal)
    assert isinstance(open_announcement(envelope + bytes(1 + bit % 3)), Refusal)
