"""The bytes of the rendezvous protocol as the first version spoke them: nodes and peers of two versions go on meeting."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from bootstrap.registry import State, register
from bootstrap.service import Rendezvous
from peerd.net.libp2p import rendezvous
from peerd.net.rendezvous import RENDEZVOUS
from peerd.wire.addresses import parse_address
from peerd.wire.framing import frame
from peerd.wire.keys import PeerKey
from peerd.wire.messages import VERSION, Register
from peerd.wire.traits import Traits
from tests.fuzz.stream import EOF, OTHER_SIDE, Script, ScriptedHost, ScriptedStream, in_virtual_time, serve

NETWORK = "a" * 64
SOMEBODY = PeerKey(b"\5" * 32).peer_id
QUESTION = bytes.fromhex(
    "000000b685a474797065a87265676973746572a76e6574776f726bd940616161616161616161616161616161616161616161"
    "61616161616161616161616161616161616161616161616161616161616161616161616161616161616161a9616464726573"
    "73657391b72f6970342f3139322e302e322e392f7463702f34303031a477616e7404a377687985a474797065a3776879a776"
    "657273696f6e02a567726f7570a23161a56d6f64656ca23563a761646170746572a23266"
)
ANSWER = bytes.fromhex(
    "000000d285a474797065a673616d706c65a6737461747573a26f6ba570656572739182a470656572d934313244334b6f6f57"
    "4846643167794e5946717874376b6539465932566f565657593258535068764c397667327042367751476661a96164647265"
    "7373657391d9502f6970342f3139322e302e322e312f7463702f343030312f7032702f313244334b6f6f574846643167794e"
    "5946717874376b6539465932566f565657593258535068764c397667327042367751476661af657870697265735f7365636f"
    "6e6473cd0258a66f746865727390"
)
BAD_REQUEST = bytes.fromhex(
    "0000004085a474797065a673616d706c65a6737461747573ab6261642d72657175657374a5706565727390af657870697265"
    "735f7365636f6e647300a66f746865727390"
)


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (QUESTION, ANSWER),
        (b"\x00\x00\x10\x01", BAD_REQUEST),  # 4097 bytes: too many, none of them read
        (frame(b"\xff\xff", max_bytes=9), BAD_REQUEST),
    ],
)
def test_a_node_answers_byte_for_byte_as_it_always_did(said: bytes, answered: bytes) -> None:
    registered = Register(network=NETWORK, addresses=("/ip4/192.0.2.1/tcp/4001",))
    state, _ = register(State(), 0.0, SOMEBODY, "192.0.2.1", registered, Random(1))
    stream = ScriptedStream(Script(EOF, 0, b"", said))

    assert serve(Rendezvous(state, lambda: 1.0, Random(1)).serve, stream)

    assert bytes(stream.written) == answered
    assert stream.closed


def test_a_peer_asks_byte_for_byte_as_it_always_did_and_reads_the_answer() -> None:
    host = ScriptedHost(Script(EOF, 0, b"", ANSWER))
    node = parse_address(f"/ip4/192.0.2.9/tcp/4001/p2p/{OTHER_SIDE}")
    why = Traits(group="writers", model="a" * 64, adapter="b" * 64).told_by(SOMEBODY)
    message = Register(network=NETWORK, addresses=("/ip4/192.0.2.9/tcp/4001",), want=4, why=why)

    answer = in_virtual_time(lambda: rendezvous.ask(host, node, message))

    asked = QUESTION.replace(
        b"version\x02", b"version" + bytes([VERSION])
    )  # says which version it speaks, else nothing new
    assert [bytes(stream.written) for stream in host.streams] == [asked]
    assert RENDEZVOUS.protocol == "/peerd/rendezvous/2"
    assert msgspec.to_builtins(answer)["peers"][0]["peer"] == SOMEBODY
