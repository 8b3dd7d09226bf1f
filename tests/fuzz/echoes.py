"""Targets: both sides of the echo protocol, played against a scripted other side in virtual time.

Always: it ends, within bounds; nothing is kept, handed back or handed up but what may be: of whoever is at the other end
what its own key has signed for this network, and one message of a neighbour at a time.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import msgpack

from p2pfinetune.names import Digest, PeerId
from peerd.net import limits
from peerd.net.libp2p import echo
from peerd.net.libp2p.guard import NETWORK_ERRORS, attempt
from peerd.net.transport import Heard
from peerd.wire.envelope import DOMAIN, opened, seal
from peerd.wire.framing import HEADER_BYTES, frame
from peerd.wire.keys import PeerKey
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, VERSION, Announcement
from tests.fuzz import mutate
from tests.fuzz.messages import KEY, NAMES, NETWORK, WORDS, announcement
from tests.fuzz.protocols import check_reading, playing
from tests.fuzz.stream import OTHER_SIDE, Script, ScriptedHost, ScriptedStream, in_virtual_time, mutator, serve
from tests.fuzz.target import Target

SIDE = PeerKey(b"\7" * 32)
TWIN = announcement(peer=OTHER_SIDE, epoch=9)
TWINS_WORDS = seal(SIDE, TWIN)


def run_echo_server(data: bytes) -> None:
    """Whoever says its own last words is handed those of another run of it; nobody else is handed anything."""
    script, told = Script.of(data), list[Heard]()
    host = SimpleNamespace(set_stream_handler=lambda *_: None)
    asked = echo.Echo(host, Digest(NETWORK), told.append, lambda _: None)
    asked.heard(TWIN, TWINS_WORDS)
    stream = ScriptedStream(script)
    done = serve(asked.answering.serve, stream)
    check_reading(stream, MAX_ANNOUNCEMENT_BYTES)
    assert not told, "what is asked is no news"
    length = int.from_bytes(script.said[:HEADER_BYTES], "big")
    body = script.said[HEADER_BYTES : HEADER_BYTES + length]
    said = (
        limits.announced_here(opened(body), Digest(NETWORK))
        if 0 < len(body) == length <= MAX_ANNOUNCEMENT_BYTES
        else None
    )
    is_its_own = said is not None and said.peer == OTHER_SIDE
    if stream.written:
        assert is_its_own
        assert bytes(stream.written) == frame(TWINS_WORDS, max_bytes=MAX_ANNOUNCEMENT_BYTES)
    elif done and script.is_smooth:
        assert said is None or not is_its_own or said.epoch == TWIN.epoch
    kept = asked._echoes._newest
    assert list(kept) == [OTHER_SIDE]
    assert set(kept[PeerId(OTHER_SIDE)]) <= {TWIN.epoch, *([said.epoch] if said is not None and is_its_own else [])}


def run_echo_client(data: bytes) -> None:
    """At most one message, no longer than one may be, is handed up as heard of whoever was asked."""
    script, told = Script.of(data), list[Heard]()
    host: Any = ScriptedHost(script)
    host.set_stream_handler = lambda *_: None
    asking = echo.Echo(host, Digest(NETWORK), told.append, lambda _: None)

    async def ask() -> Exception | None:
        return await attempt(asking.ask, OTHER_SIDE, TWINS_WORDS)

    with patch.object(echo, "is_connected", lambda *_: True):
        failure = in_virtual_time(ask)
    assert failure is None or isinstance(failure, NETWORK_ERRORS)
    for stream in host.streams:
        check_reading(stream, MAX_ANNOUNCEMENT_BYTES)
    assert len(told) <= (failure is None)
    assert all(heard.via == OTHER_SIDE and len(heard.envelope.data) <= MAX_ANNOUNCEMENT_BYTES for heard in told)
    assert not asking._echoes._newest, "what a neighbour hands back is not kept"


def mutate_words(data: bytes, dice: Random) -> bytes:
    """The payload changed and signed again by the other side, or the envelope around it changed."""
    try:
        _, payload, _ = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException):
        return _OUTER(data, dice)
    if dice.random() < 0.2 or not isinstance(payload, bytes):
        return _OUTER(data, dice)
    payload = _PAYLOAD(payload, dice)
    return bytes(msgpack.packb([VERSION, payload, SIDE.sign(DOMAIN + payload)]))


_OUTER = mutate.msgpack_trees()
_PAYLOAD = mutate.msgpack_trees(NAMES, WORDS)


def _said(key: PeerKey, **changes: Any) -> bytes:
    words: Announcement = announcement(peer=key.peer_id, **changes)
    return frame(seal(key, words), max_bytes=MAX_ANNOUNCEMENT_BYTES)


_CONVERSATIONS = (
    _said(SIDE),
    _said(SIDE, epoch=TWIN.epoch, sequence=8),
    _said(SIDE, network="c" * 64),
    _said(KEY),
    frame(b"\xff" * MAX_ANNOUNCEMENT_BYTES, max_bytes=MAX_ANNOUNCEMENT_BYTES),
    b"\0\0\x10\x01" + bytes(MAX_ANNOUNCEMENT_BYTES + 1),
    b"",
)
TARGETS = tuple(
    Target(
        name=name, run=run, seeds=playing(*_CONVERSATIONS), max_bytes=6000, mutate=mutator(mutate.framed(mutate_words)),
        words=WORDS, peak_bytes=4 << 20,
    )
    for name, run in (("echo-server", run_echo_server), ("echo-client", run_echo_client))
)  # fmt: skip
