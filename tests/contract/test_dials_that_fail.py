"""Real dials on loopback that come to nothing: each cause has its own reason, and a sentence that says what it is."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from peerd.net.libp2p import host
from peerd.net.libp2p.dialling import IN_THE_CLEAR, caller
from peerd.net.transport import Connected, Failed
from peerd.wire.addresses import parse_address
from peerd.wire.keys import PeerKey

SOMEBODY = PeerKey(bytes([77]) * 32).peer_id
PRETENCE = f"remote_peer_id_from_pubkey={PeerKey(bytes([78]) * 32).peer_id}\n".encode()
"""As the library words who proved to be somebody else; it repeats what it was told, too."""


async def failed(peer: Any, address: str, name: str = SOMEBODY) -> Failed:
    outcome = await peer.transport.connect(name, [address])
    assert isinstance(outcome, Failed)
    return outcome


def test_one_that_answers_under_another_id_is_told_with_that_id(play_libp2p):
    async def scenario(world):
        one, other = await world.peer(), await world.peer()
        where = other.addresses[0].partition("/p2p/")[0]

        outcome = await failed(one, where)

        assert (outcome.reason, outcome.found) == ("other-identity", other.id)
        assert outcome.detail == f"answers under another id: {other.id}"
        assert outcome.address == f"{where}/p2p/{SOMEBODY}"

    play_libp2p(scenario)


def test_where_nothing_listens_is_told_as_refused_and_no_way_there_as_that(play_libp2p):
    async def scenario(world):
        one = await world.peer()
        with socket.create_server(("127.0.0.1", 0)) as closing:
            port = closing.getsockname()[1]

        refused = await failed(one, f"/ip4/127.0.0.1/tcp/{port}")
        no_way = await failed(one, "/ip4/255.255.255.255/tcp/4001")

        assert (refused.reason, no_way.reason) == ("connection-refused", "no-route")
        assert f"nothing listens on port {port}" in refused.detail

    play_libp2p(scenario)


@pytest.mark.parametrize(
    ("greeting", "reason", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" + b"x" * 90, "refused", "it says 'SSH-2.0-OpenSSH_9.2p1 De'"),
        (b"", "unreachable", "ends it without a word"),
        (None, "timeout", "says nothing"),
        (bytes(range(128, 255)) * 9, "other-key", "has a group key, and this peer has none"),
        (IN_THE_CLEAR + bytes([len(PRETENCE)]) + PRETENCE, "unreachable", "breaks the handshake off"),
    ],
)
def test_another_service_is_told_apart_from_a_peer(play_libp2p, monkeypatch, greeting, reason, words):
    async def scenario(world):
        monkeypatch.setattr(host, "DIAL_SECONDS", 0.5)
        one, over = await world.peer(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if greeting is None:
                await over.wait()
            else:
                writer.write(greeting)
                await writer.drain()
            while PRETENCE in (greeting or b"") and await reader.read(1024):
                pass  # else it is reset before it is heard
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        outcome = await failed(one, f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}")
        over.set()
        server.close()

        assert (outcome.reason, outcome.found) == (reason, None)
        assert words in outcome.detail
        assert "pubkey" not in outcome.detail, "no more than 24 characters of what it says is shown"

    play_libp2p(scenario)


@pytest.mark.parametrize(
    ("mine", "theirs", "words", "met_here", "met_there"),
    [
        ("ab" * 32, None, "has no group key, and this peer has one", "no-key", "key"),
        (None, "ab" * 32, "has a group key, and this peer has none", "key", "no-key"),
        ("ab" * 32, "cd" * 32, "has another group key", "key", "key"),
    ],
)
def test_another_group_key_is_told_on_both_sides_by_which_has_one(
    play_libp2p, monkeypatch, mine, theirs, words, met_here, met_there
):
    async def scenario(world):
        monkeypatch.setattr(host, "DIAL_SECONDS", 1.0)
        other = await world.peer(psk=theirs)
        one = await world.peer(psk=mine, given=(parse_address(other.addresses[0]),))

        outcome = await failed(one, other.addresses[0], other.id)

        assert (outcome.reason, outcome.differs) == ("other-key", (met_here,)), outcome
        assert words in outcome.detail
        assert set(one.transport.met()) == {met_here}
        async with asyncio.timeout(30):
            while set(other.transport.met()) != {
                met_there
            }:  # counted in the network's thread, or the dial ended too soon
                await asyncio.sleep(0.1)
                await failed(one, other.addresses[0], other.id)

    play_libp2p(scenario)


def test_who_has_the_key_and_goes_wrong_otherwise_is_not_said_to_lack_it(play_libp2p):
    async def scenario(world):
        other = await world.peer(psk="ab" * 32)
        one = await world.peer(psk="ab" * 32)

        wrong_name = await failed(one, other.addresses[0].partition("/p2p/")[0])
        async with asyncio.timeout(30):
            while not any("failed" in what for what in other.transport.counts()):  # noqa: ASYNC110  # another thread
                await asyncio.sleep(0.01)

        assert (wrong_name.reason, wrong_name.differs) == ("other-identity", ())
        assert one.transport.met() == other.transport.met() == {}
        assert isinstance(await one.transport.connect(other.id, other.addresses), Connected)

    play_libp2p(scenario)


@pytest.mark.parametrize(
    ("heard", "is_keyed", "kinds"),
    [
        (IN_THE_CLEAR, True, ("no-key",)),
        (IN_THE_CLEAR[:7], True, ()),
        (IN_THE_CLEAR + bytes(range(130, 170)), False, ()),
        (bytes(range(130, 154)), False, ("key",)),
        (bytes(range(130, 154)), True, ("key",)),
        (bytes(range(130, 153)), False, ()),
        (b"\x16\x03\x01\x02\x00\x01" + bytes(range(130, 170)), False, ()),
        (b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n", False, ()),
        (b"\xaa" * 48, True, ()),
        (b"", True, ()),
    ],
)
def test_one_that_came_and_could_not_be_understood_is_taken_for_a_peer_only_where_it_begins_as_one(
    heard, is_keyed, kinds
):
    assert caller(heard, is_keyed=is_keyed) == kinds


def test_a_name_of_the_hosts_file_is_dialled_where_a_person_gave_it_and_by_nobody_else(play_libp2p):
    async def scenario(world):
        other = await world.peer()
        port = parse_address(other.addresses[0]).port
        name = f"/dns4/localhost/tcp/{port}/p2p/{other.id}"
        one, stranger = await world.peer(given=(parse_address(name),)), await world.peer()

        connected = await one.transport.connect(other.id, [name])
        unheard = await failed(stranger, name, other.id)

        assert connected == Connected(other.id, name)
        assert unheard.detail == "no address that can be dialled"

    play_libp2p(scenario)
