"""Targets: what peers and bootstrap nodes say to each other, as bytes. Nothing here may raise, ever."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any

import msgpack
from libp2p.peer.id import ID

from p2pfinetune.names import Refusal
from peerd.net.libp2p.dialling import dialled
from peerd.net.limits import announced_here
from peerd.net.middles import MAX_REQUEST, question, read_question, read_reply, reply
from peerd.wire.addresses import Address, dialable, parse_address
from peerd.wire.envelope import DOMAIN, Envelope, open_announcement, seal
from peerd.wire.framing import HEADER_BYTES, MAX_ITEMS, body_length, frame, pack, unpack, unpack_plain
from peerd.wire.keys import PeerKey, peer_id_of, public_key_of, verify
from peerd.wire.messages import (
    MAX_ADDRESSES,
    MAX_ANNOUNCEMENT_BYTES,
    MAX_SKETCH,
    VERSION,
    Announcement,
    BlobReply,
    BlobRequest,
    MiddleReply,
    MiddleRequest,
    PeerRecord,
    Register,
    Sample,
    Why,
)
from peerd.worker.middles import read
from tests.fuzz import mutate
from tests.fuzz.target import Target

KEY, OTHER_KEY = PeerKey(b"\1" * 32), PeerKey(b"\2" * 32)
SIGNED = KEY.sign(DOMAIN) + DOMAIN
NETWORK, BLOB = "a" * 64, "b" * 64
KINDS = (Announcement, BlobRequest, BlobReply, MiddleRequest, MiddleReply, Register, Sample, Why)
NAMES = sorted({name for kind in (*KINDS, PeerRecord) for name in kind.__struct_fields__} | {"type"})
WORDS = [
    name.encode()
    for name in (
        *NAMES,
        "announcement",
        "blob-request",
        "blob-reply",
        "middle-request",
        "middle-reply",
        "register",
        "sample",
        "ok",
    )
]
ADDRESS_WORDS = [b"/ip4/", b"/ip6/", b"/dns/", b"/dns4/", b"/dns6/", b"/tcp/", b"/p2p/", b"127.0.0.1", b"::", b"0.0.0.0",
                 b"::ffff:1.2.3.4", b"%eth0", b"fe80::1", b"-", b".", b"65535", b"65536", b"0", b"xn--", b"/"]  # fmt: skip
MAX_MESSAGE = 4096


def announcement(**changes: Any) -> Announcement:
    """An honest one."""
    fields: dict[str, Any] = {
        "network": NETWORK, "peer": KEY.peer_id, "epoch": 1_700_000_000, "sequence": 7, "time": 1_700_000_123, "round": 3, "codec": "bf16",
        "size": 123_456, "blob": BLOB, "name": "ada", "addresses": (f"/ip4/192.168.1.20/tcp/4001/p2p/{KEY.peer_id}",),
    }  # fmt: skip
    return Announcement(**{**fields, **changes})


def messages() -> list[Any]:
    """One and more of every kind, small and large."""
    record = PeerRecord(peer=OTHER_KEY.peer_id, addresses=("/ip4/10.0.0.7/tcp/4001", "/dns4/example.org/tcp/1"))
    return [
        announcement(),
        announcement(peer=OTHER_KEY.peer_id, name="", addresses=(), size=1, round=0),
        announcement(base=NETWORK, base_size=99_999),
        announcement(name="é" * 64, addresses=("/ip6/::1/tcp/65535",) * 8, size=2**40, sequence=2**53),
        BlobRequest(blob=BLOB),
        BlobRequest(blob=BLOB, offset=2**53),
        BlobReply(status="ok", size=300),
        BlobReply(status="absent"),
        BlobReply(status="busy"),
        BlobReply(status="bad-offset", size=9),
        MiddleRequest(mine=BLOB, yours=NETWORK),
        MiddleReply(status="ok", sketch=bytes(300)),
        MiddleReply(status="again"),
        Register(network=NETWORK, addresses=("/ip4/192.168.1.20/tcp/4001",)),
        Register(network=NETWORK, addresses=(), want=64, why=Why(version=2, group="0a", model="ff", adapter="00")),
        Sample(status="ok", peers=(record, record), expires_seconds=600),
        Sample(status="quota"),
        Sample(status="ok", expires_seconds=600, others=("group", "model")),
        Why(version=2, group="0a", model="ff", adapter="00"),
    ]


def run_envelope(data: bytes) -> None:
    """What opens is signed by its sender, stands in the one spelling, and can be sealed again."""
    opened = open_announcement(data)
    announced_here(Envelope(data, opened), NETWORK)
    if isinstance(opened, Refusal):
        assert opened.reason in {"oversize", "malformed", "bad-envelope", "version", "bad-message", "signature"}
        match unpack_plain(data, max_bytes=MAX_ANNOUNCEMENT_BYTES):
            case [int(version), bytes(), bytes()] if version not in (VERSION, True, False):
                assert opened.reason == "version"
        return
    assert len(data) <= MAX_ANNOUNCEMENT_BYTES
    version, payload, signature = msgpack.unpackb(data)
    assert data == msgpack.packb([VERSION, payload, signature]), "a second spelling of one envelope"
    assert type(version) is int
    check_no_key_twice(payload)
    assert verify(opened.peer, signature, DOMAIN + payload)
    for key in (KEY, OTHER_KEY):
        assert verify(key.peer_id, signature, DOMAIN + payload) == (key.peer_id == opened.peer)
        if key.peer_id == opened.peer and len(payload) < MAX_ANNOUNCEMENT_BYTES - 512:
            assert open_announcement(seal(key, opened)) == opened


def check_no_key_twice(data: bytes) -> None:
    """By a decoder of our own making: every map has each key once, nothing is longer than allowed."""

    def walk(tree: Any) -> None:
        if isinstance(tree, mutate.Pairs):
            assert len({key for key, _ in tree}) == len(tree), "a key stands twice"
            assert all(isinstance(key, str | bytes) for key, _ in tree)
            children: list[Any] = [value for _, value in tree]
        else:
            children = tree if isinstance(tree, list) else []
        assert len(children) <= MAX_ITEMS
        for child in children:
            walk(child)

    walk(msgpack.unpackb(data, raw=False, strict_map_key=False, object_pairs_hook=mutate.Pairs))


def run_messages(data: bytes) -> None:
    """At most one kind of message takes the bytes, and gives bytes of its own that mean the same."""
    value = unpack_plain(data, max_bytes=MAX_MESSAGE)
    if not isinstance(value, Refusal):
        assert len(data) <= MAX_MESSAGE
        check_no_key_twice(data)
    taken = [message for kind in KINDS if not isinstance(message := unpack(data, kind, max_bytes=MAX_MESSAGE), Refusal)]
    assert len(taken) <= 1
    for message in taken:
        assert len(data) <= MAX_MESSAGE
        again = pack(message)
        assert unpack(again, type(message), max_bytes=len(again)) == message
        assert value["type"] == type(message).__struct_config__.tag
        assert set(value) <= set(type(message).__struct_fields__) | {"type"}
    if taken and isinstance(taken[0], Sample | Register | Announcement):
        check_addresses(taken[0])


def check_addresses(message: Sample | Register | Announcement) -> None:
    """Whatever a stranger names is dialled by libp2p, or is left out before."""
    if isinstance(message, Sample):
        assert len(message.peers) <= 64
        offers = [(record.peer, record.addresses) for record in message.peers]
    else:
        offers = [(getattr(message, "peer", KEY.peer_id), message.addresses)]
    for peer, texts in offers:
        assert len(texts) <= MAX_ADDRESSES
        found = dialable(texts, peer)
        for address in found:
            assert address.kind in {"ip4", "ip6"}  # no stranger has a name resolved here
            check_dialable(address)
        if found:
            ID.from_string(peer)


def run_middles(data: bytes) -> None:
    """A question is two digests; an answer a word, or numbers that are as many as they must be and finite."""
    asked, said = read_question(data), read_reply(data)
    if not isinstance(asked, Refusal):
        assert len(data) <= MAX_REQUEST
        assert read_question(question(asked.mine, asked.yours)) == asked
    if isinstance(said, Refusal):
        return
    assert len(said.sketch) <= MAX_SKETCH
    assert read_reply(reply(said.status, said.sketch)) == said
    assert isinstance(read(said.sketch), Refusal)  # too few
    numbers = read(
        (said.sketch * (MAX_SKETCH // max(1, len(said.sketch)) + 1))[:MAX_SKETCH]
    )  # said over and over, so that inputs stay small
    if isinstance(numbers, Refusal):
        assert numbers.reason == ("not-finite" if said.sketch else "malformed")
    else:
        assert math.isfinite(float(numbers.astype("f8") @ numbers.astype("f8")))


def run_frames(data: bytes) -> None:
    """A header tells a length within the limit, or nothing."""
    limit = int.from_bytes(data[:2], "big")
    header, body = data[2 : 2 + HEADER_BYTES], data[2 + HEADER_BYTES :]
    length = body_length(header, max_bytes=limit)
    if isinstance(length, Refusal):
        assert length.reason == ("truncated" if len(header) < HEADER_BYTES else "oversize")
    else:
        assert 0 <= length <= limit
        assert frame(bytes(length), max_bytes=limit)[:HEADER_BYTES] == header
    if len(body) <= limit:
        framed = frame(body, max_bytes=limit)
        assert body_length(framed[:HEADER_BYTES], max_bytes=limit) == len(body)


def run_addresses(data: bytes) -> None:
    """An address that is taken comes back from its text, and libp2p takes it too."""
    text = data.decode("utf-8", "replace")
    address = parse_address(text)
    if isinstance(address, Refusal):
        assert address.reason == "bad-address"
        assert len(address.detail) < 2048
    else:
        assert parse_address(str(address)) == address
        check_dialable(address)
    for found in dialable(text.split("\n"), KEY.peer_id):
        assert found.peer == KEY.peer_id
        assert found.port > 0
        check_dialable(found)


def check_dialable(address: Address) -> None:
    """The network library reads what we pass on to it."""
    assert len(address.host) <= 253
    assert 0 <= address.port <= 65_535
    if address.kind in {"ip4", "ip6"}:
        assert dialled(address) is not None
    else:
        dialled(address)
    if address.peer is not None:
        ID.from_string(address.peer)


def run_keys(data: bytes) -> None:
    """A peer id has one spelling, and libp2p sees the same key in it."""
    peer = data.decode("utf-8", "replace")
    key = public_key_of(peer)
    if key is not None:
        assert len(key) == 32
        assert peer_id_of(key) == peer
        assert ID.from_string(peer).to_base58() == peer
    assert verify(KEY.peer_id, data[:64], data[64:]) == (data == SIGNED), "a second signature of one text"
    verify(peer, data[-64:], data)


def mutate_envelope(data: bytes, dice: Random) -> bytes:
    """The payload changed and signed again, or the envelope around it changed."""
    try:
        _, payload, signature = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException):
        return _OUTER(data, dice)
    if dice.random() < 0.3 or not isinstance(payload, bytes):
        return _OUTER(data, dice)
    payload = _PAYLOAD(payload, dice)
    if dice.random() < 0.9:
        signature = dice.choice((KEY, KEY, KEY, OTHER_KEY)).sign(DOMAIN + payload)
    return bytes(msgpack.packb([VERSION, payload, signature]))


_OUTER = mutate.msgpack_trees()
_PAYLOAD = mutate.msgpack_trees(NAMES, WORDS)


def envelopes() -> Iterator[bytes]:
    """Honest ones, and some that are nearly so."""
    good = seal(KEY, announcement())
    yield good
    yield seal(OTHER_KEY, announcement(peer=OTHER_KEY.peer_id, name="", addresses=()))
    yield seal(KEY, announcement(addresses=(f"/ip4/192.168.1.20/tcp/4001/p2p/{KEY.peer_id}",) * 8))
    payload = pack(announcement())
    yield signed(payload, version=VERSION - 1)
    yield signed(payload, version=VERSION + 1)
    yield signed(payload, version=True)
    yield signed(payload, key=OTHER_KEY)
    yield b"\xdc\0\3" + good[1:]  # a longer spelling
    yield good + b"\0"
    yield signed(bytes([payload[0] + 1]) + payload[1:] + b"\xa4name\xa3eve")  # a name stands twice
    yield signed(payload[:-1])


def signed(payload: bytes, *, version: int = VERSION, key: PeerKey = KEY) -> bytes:
    """An envelope around anything."""
    return bytes(msgpack.packb([version, payload, key.sign(DOMAIN + payload)]))


def message_seeds() -> Iterator[bytes]:
    """Of every kind, and lengths that lie."""
    yield from map(pack, messages())
    yield from (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff", b"\xc9\xff\xff\xff\xff\1")
    yield pack(Register(network=NETWORK, addresses=())).replace(b"want\x10", b"want\x41")
    reply = pack(BlobReply(status="ok", size=5))
    yield bytes([reply[0] + 1]) + reply[1:] + b"\xa4size\7"
    yield msgpack.packb({"status": "ok", "size": 5})  # what kind of message?
    yield msgpack.packb({"type": "blob-reply", "status": "ok", "size": 5, "x": 1})
    yield msgpack.packb({str(number): 0 for number in range(MAX_ITEMS + 1)})
    yield pack(Sample(status="ok", peers=(PeerRecord(peer="p" * 128, addresses=("a" * 256,) * 8),) * 2))  # too long
    yield from (b"\x81\x01\x02", b"\x81\x90\x01", b"\x81\xa1x\x81\xc0\x01", b"\x82\xa1x\x81\xa1y\x01\xa1x\x01")
    yield b"\xdc\0\x81" + b"\1" * 129
    yield b"\x81\xa4type" + b"\x91" * 1000


def middle_seeds() -> Iterator[bytes]:
    """Questions, words, and numbers that are some and that are none."""
    yield question(BLOB, NETWORK)
    yield question(BLOB, NETWORK + "0")
    for number in (b"", b"x", bytes(4), b"\xff\xff\x7f\x7f", b"\1\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\xff"):
        yield reply("ok", 8 * number)  # the largest, the least, none at all, infinite
    yield from (reply(word) for word in ("not-chosen", "busy", "absent", "again", "ok "))


def address_seeds() -> Iterator[bytes]:
    """All kinds."""
    peer = KEY.peer_id
    for text in (f"/ip4/192.168.1.20/tcp/4001/p2p/{peer}", "/ip6/2001:db8::1/tcp/80", "/dns4/example.org./tcp/443",
                 "/dns/a-b.xn--c/tcp/1", "/dns6/localhost/tcp/0", "/ip4/0.0.0.0/tcp/9", "/ip6/::ffff:1.2.3.4/tcp/5",
                 f"/ip4/1.2.3.4/tcp/00080/p2p/{OTHER_KEY.peer_id}", "/ip6/fe80::1%eth0/tcp/5", "/ip4/1.2.3.4/tcp/65536", "/ip4/1.2.3.4/tcp/999999"):  # fmt: skip
        yield text.encode()


def key_seeds() -> Iterator[bytes]:
    """Ids of keys, and ids that are none."""
    yield KEY.peer_id.encode()
    yield OTHER_KEY.peer_id.encode()
    yield b"1" + KEY.peer_id.encode()
    yield KEY.peer_id.encode() + b"\n"
    yield KEY.peer_id[:-1].encode()
    yield from (peer_id_of(b"k" * length).encode() for length in (0, 31, 33))
    yield KEY.peer_id.encode() + b"1"
    yield b"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
    yield SIGNED


def frame_seeds() -> Iterator[bytes]:
    """A limit, a header, a body."""
    for limit, body in ((512, b"abc"), (2, b"abc"), (0, b""), (65_535, b"x" * 100)):
        yield limit.to_bytes(2, "big") + len(body).to_bytes(4, "big") + body
    yield b"\x10\0\xff\xff\xff\xff"
    yield b"\x10\0\x80\0"


TARGETS = (
    Target(
        name="envelope", run=run_envelope, seeds=envelopes, max_bytes=5000, mutate=mutate_envelope, words=WORDS,
    ),
    Target(
        name="messages", run=run_messages, seeds=message_seeds, max_bytes=MAX_MESSAGE + 8, words=WORDS,
        mutate=mutate.msgpack_trees(NAMES, WORDS),
    ),
    Target(
        name="middles", run=run_middles, seeds=middle_seeds, max_bytes=6000, words=WORDS,
        mutate=mutate.msgpack_trees(NAMES, WORDS),
    ),
    Target(name="frames", run=run_frames, seeds=frame_seeds, max_bytes=256, mutate=mutate.plain()),
    Target(
        name="addresses", run=run_addresses, seeds=address_seeds, max_bytes=400, mutate=mutate.plain(ADDRESS_WORDS),
        words=ADDRESS_WORDS,
    ),
    Target(name="keys", run=run_keys, seeds=key_seeds, max_bytes=256, mutate=mutate.plain([b"1", b"12D3KooW"])),
)  # fmt: skip
