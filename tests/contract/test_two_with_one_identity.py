"""Two transports with one identity in one network: each is handed the other's words by whoever it is connected with."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from peerd.net import limits
from peerd.net.transport import Heard
from peerd.wire.envelope import open_announcement, opened, seal
from peerd.wire.keys import PeerKey


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ECHO_PAUSE_SECONDS", 0.05)


def of_epoch(peer, epoch):
    said = open_announcement(peer.announcement())
    return seal(peer.key, replace(said, epoch=epoch))


def test_each_of_two_with_one_identity_is_handed_the_words_of_the_other(play_libp2p):
    async def scenario(world):
        common = await world.peer()
        key = PeerKey(b"x" * 32)
        one, two = await world.peer(key=key), await world.peer(key=key)
        await one.connect(common)
        await two.connect(common)
        older, newer = of_epoch(one, 1), of_epoch(two, 2)
        await one.transport.publish(older)
        await two.transport.publish(newer)

        await one.until(Heard(opened(newer), common.id))
        await two.until(Heard(opened(older), common.id))

    play_libp2p(scenario)


def test_who_has_no_double_is_handed_nothing_and_stays_connected(play_libp2p):
    async def scenario(world):
        ada, bob = await world.linked(2)
        for peer in (ada, bob):
            await peer.transport.publish(of_epoch(peer, 1))
        await ada.until(Heard)
        await bob.until(Heard)
        await asyncio.sleep(0.5)

        assert bob.id in ada.transport.connected()
        assert {seen.via for seen in ada.events if isinstance(seen, Heard)} == {bob.id}
        assert {seen.envelope.said.peer for seen in ada.events if isinstance(seen, Heard)} == {bob.id}
        assert "echoes-failed" not in ada.transport.counts()

    play_libp2p(scenario)


def test_words_of_another_are_not_kept_as_those_of_whoever_brings_them(play_libp2p):
    async def scenario(world):
        ada, bob = await world.linked(2)
        ada.transport._node._echo.said = of_epoch(bob, 7)  # bob's own words, as a stranger may have recorded them
        bob.transport._node._echo.said = b"\xff" * 4096
        await asyncio.sleep(0.5)

        for peer in (ada, bob):
            assert peer.transport._node._echo._echoes.of(bob.id, besides=1) is None
            assert peer.transport._node._echo._echoes.of(ada.id, besides=1) is None
        assert bob.id in ada.transport.connected()

    play_libp2p(scenario)
