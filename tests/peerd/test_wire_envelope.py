from __future__ import annotations

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.names import Refusal
from peerd.wire.envelope import DOMAIN, open_announcement, seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, VERSION, Announcement

KEY = PeerKey(bytes(range(32)))
ANNOUNCEMENT = Announcement(
    network="a" * 64,
    peer=KEY.peer_id,
    epoch=1,
    sequence=2,
    round=3,
    codec="bf16",
    size=4,
    blob="b" * 64,
    time=1_700_000_000,
    name="Ada",
)


def sealed(payload: bytes, *, version: object = VERSION, signature: bytes | None = None) -> bytes:
    return msgpack.packb([version, payload, KEY.sign(DOMAIN + payload) if signature is None else signature])


def fields(**changes: object) -> dict[str, object]:
    return {**msgspec.to_builtins(ANNOUNCEMENT), **changes}


def test_an_announcement_comes_back_as_it_was_sealed():
    assert open_announcement(seal(KEY, ANNOUNCEMENT)) == ANNOUNCEMENT


def test_the_bytes_on_the_wire_are_these():
    import hashlib

    envelope = seal(KEY, ANNOUNCEMENT)

    assert len(envelope) == 382
    assert envelope[:5].hex() == "9303c50137"
    assert hashlib.sha256(envelope).hexdigest() == "299b5887f29a9871c9e4716e7444c756b7d0df1b2d95446a8f5e1f9237cd401f"


def test_the_longest_announcement_fits():
    longest = Announcement(
        network="a" * 64,
        peer=KEY.peer_id,
        epoch=2**53,
        sequence=2**53,
        round=2**53,
        codec="c" * 32,
        size=2**40,
        blob="b" * 64,
        time=2**53,
        name="\N{GRINNING FACE}" * 64,
        addresses=("/ip6/2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/tcp/65535/p2p/" + KEY.peer_id,) * 8,
    )

    assert open_announcement(seal(KEY, longest)) == longest


def test_nobody_signs_for_another():
    with pytest.raises(ValueError, match="cannot sign for"):
        seal(PeerKey(bytes(32)), ANNOUNCEMENT)


def test_what_would_be_too_long_is_not_sealed():
    with pytest.raises(ValueError, match="at most 4096"):
        seal(KEY, msgspec.structs.replace(ANNOUNCEMENT, addresses=("/" * 600,) * 8))


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (bytes(MAX_ANNOUNCEMENT_BYTES + 1), "oversize"),
        (seal(KEY, ANNOUNCEMENT)[:-1], "malformed"),
        (seal(KEY, ANNOUNCEMENT) + b"\0", "malformed"),
        (msgpack.packb([2, b"x"]), "bad-envelope"),
        (msgpack.packb({"version": 1}), "bad-envelope"),
        (msgpack.packb([True, b"x", bytes(64)]), "bad-envelope"),
        (msgpack.packb([2, "x", bytes(64)]), "bad-envelope"),
        (sealed(msgpack.packb(fields()), version=1), "version"),
        (sealed(msgpack.packb(fields()), version=-1), "version"),
        (sealed(msgpack.packb(fields()), signature=bytes(64)), "signature"),
        (sealed(msgpack.packb(fields()), signature=b""), "signature"),
        (sealed(msgpack.packb(fields(), use_bin_type=True), signature=KEY.sign(msgpack.packb(fields()))), "signature"),
        (sealed(b"\xc1"), "malformed"),
        (sealed(msgpack.packb([])), "bad-message"),
        (sealed(msgpack.packb(fields(type="register"))), "bad-message"),
        (sealed(msgpack.packb(fields(unknown=1))), "bad-message"),
        (sealed(msgpack.packb(fields(round=-1))), "bad-message"),
        (sealed(msgpack.packb(fields(round=1.0))), "bad-message"),
        (sealed(msgpack.packb(fields(sequence=2**53 + 1))), "bad-message"),
        (sealed(msgpack.packb(fields(time=-1))), "bad-message"),
        (sealed(msgpack.packb(fields(time=1.5))), "bad-message"),
        (sealed(msgpack.packb(fields(time=2**53 + 1))), "bad-message"),
        (sealed(msgpack.packb({k: v for k, v in fields().items() if k != "time"})), "bad-message"),
        (sealed(msgpack.packb(fields(size=0))), "bad-message"),
        (sealed(msgpack.packb(fields(size=2**41))), "bad-message"),
        (sealed(msgpack.packb(fields(blob="B" * 64))), "bad-message"),
        (sealed(msgpack.packb(fields(blob="b" * 63))), "bad-message"),
        (sealed(msgpack.packb(fields(network=b"a" * 64))), "bad-message"),
        (sealed(msgpack.packb(fields(codec=""))), "bad-message"),
        (sealed(msgpack.packb(fields(name="x" * 65))), "bad-message"),
        (sealed(msgpack.packb(fields(addresses=["/"] * 9))), "bad-message"),
        (sealed(msgpack.packb(fields(peer=PeerKey(bytes(32)).peer_id))), "signature"),
        (sealed(msgpack.packb(fields(peer="x" * 52))), "signature"),
        (sealed(b"\x82\xa1a\x01\xa1a\x02"), "malformed"),
        (sealed(b"\x81\x01\x02"), "malformed"),
        (sealed(b"\x91" * 3000 + b"\x01"), "malformed"),
        (sealed(b"\xd6\xff\x00\x00\x00\x00"), "malformed"),
    ],
)
def test_what_is_no_valid_announcement_is_refused_with_its_reason(envelope, reason):
    refusal = open_announcement(envelope)

    assert isinstance(refusal, Refusal)
    assert refusal.reason == reason


def test_one_announcement_has_one_spelling():
    envelope = seal(KEY, ANNOUNCEMENT)
    longer = b"\xdc\x00\x03" + envelope[1:]  # array 16 instead of fixarray

    assert msgpack.unpackb(longer) == msgpack.unpackb(envelope)
    assert open_announcement(longer) == Refusal("bad-envelope", "not the shortest form")


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_opening_never_raises(data):
    assert isinstance(open_announcement(data), Refusal)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_never_passes(place, change):
    envelope = bytearray(seal(KEY, ANNOUNCEMENT))
    envelope[place % len(envelope)] ^= change

    assert isinstance(open_announcement(bytes(envelope)), Refusal)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 9), inner),
        max_leaves=20,
    )
)
def test_whatever_is_signed_is_an_announcement_or_refused(value):
    envelope = sealed(msgpack.packb(value))

    assert isinstance(open_announcement(envelope), Refusal)


@pytest.mark.parametrize(
    "fields",
    [{"base": "c" * 64}, {"base_size": 5}, {"base": ANNOUNCEMENT.blob, "base_size": 5}, {"base": "x", "base_size": 5}],
)
def test_a_base_that_cannot_be_meant_is_no_message(fields) -> None:
    payload = msgpack.packb(msgspec.to_builtins(ANNOUNCEMENT) | fields)

    assert open_announcement(sealed(payload)).reason == "bad-message"


def test_an_announcement_tells_which_blob_it_is_a_difference_to() -> None:
    said = msgspec.structs.replace(ANNOUNCEMENT, base="c" * 64, base_size=5)

    assert open_announcement(seal(KEY, said)) == said
    assert (said.key_frame, said.blobs) == (("c" * 64, 5), (said.blob, "c" * 64))
    assert (ANNOUNCEMENT.key_frame, ANNOUNCEMENT.blobs) == (
        (ANNOUNCEMENT.blob, ANNOUNCEMENT.size),
        (ANNOUNCEMENT.blob,),
    )
