"""A real libp2p peer that sends worthless blobs and badly signed announcements to a real daemon, until it is banned."""

import asyncio
import time

import pytest

from p2pfinetune.names import Digest
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Connected
from peerd.testing.store import MemoryBlobs
from peerd.wire.envelope import seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # starting daemons takes seconds of CPU time each

KEY = PeerKey(b"e" * 32)
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def victim(town):
    home = town.home("victim", "water", seed=1, collect_seconds=3.0).start()
    home.ready()
    return home


@pytest.fixture(scope="module")
def friend(town, victim):
    return town.home("friend", "water", seed=2, collect_seconds=3.0, peer=tuple(victim.status().addresses)).start()


@pytest.fixture(scope="module")
def attacked(victim, friend):
    """The victim, after an attack that went on until the attacker was banned."""
    victim.until(lambda status: any(peer.trust > 0 for peer in status.neighbours))
    asyncio.run(attack(victim))
    victim.until(is_banned)
    return victim


def is_banned(status):
    return KEY.peer_id in {banned.peer_id for banned in status.banned}


async def attack(victim):
    """Stands as any peer does; its first blob is worthless, and what it says then is signed by nobody."""
    status, shelf = victim.status(), MemoryBlobs()
    blob = (2).to_bytes(8, "little") + b"[]"  # a header that describes nothing
    said = Announcement(
        network=Digest(status.network), peer=KEY.peer_id, epoch=1, sequence=1, round=1, codec="bf16", size=len(blob),
        blob=shelf.put(blob), time=int(time.time()), name="eve\x1b[31m",
    )  # fmt: skip
    transport = Libp2pTransport(KEY, Digest(status.network), shelf, listen=("/ip4/127.0.0.1/tcp/0",))
    await transport.start()
    try:
        assert isinstance(await transport.connect(status.peer_id, status.addresses), Connected)
        await repeated(transport, seal(KEY, said), victim, lambda: "malformed" in refused(victim))
        sealed = seal(KEY, said)
        forged = sealed[:-1] + bytes([sealed[-1] ^ 1])  # a signature's last byte is 0 in one of sixteen
        await repeated(transport, forged, victim, lambda: is_banned(victim.status()))
    finally:
        await transport.stop()


async def repeated(transport, message, victim, is_enough):
    """Gossip takes a heartbeat until it has a path."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        await transport.publish(message)
        await asyncio.sleep(0.2)
        if await asyncio.to_thread(is_enough):
            return
    pytest.fail(f"the victim does not mind: {victim.status()}")


def refused(victim):
    return next((peer.refused for peer in victim.status().neighbours if peer.peer_id == KEY.peer_id), {})


def test_an_attacker_is_banned_and_peerd_peers_shows_it(attacked):
    (banned,) = attacked.json("peers")["data"]["banned"]

    assert (banned["peer_id"], banned["bans"]) == (KEY.peer_id, 1)
    assert banned["reason"] in {"signature", "malformed"}
    assert 0 < banned["seconds"] <= 600
    text = attacked.run("peers").stdout
    assert "Banned: nothing of them is taken" in text
    assert "eve" in text
    assert "\x1b[31m" not in text
    metrics = attacked.run("metrics").stdout
    assert 'peerd_refusals_total{reason="malformed"} 1.0' in metrics
    assert 'peerd_refusals_total{reason="signature"}' in metrics
    assert 'peerd_peers{standing="banned"} 1.0' in metrics


def test_honest_rounds_go_on_meanwhile(attacked, friend):
    begun, other = attacked.status(), friend.status()

    attacked.until(lambda status: status.round >= begun.round + 2 and any(p.trust > 0 for p in status.neighbours))
    friend.until(lambda status: status.round >= other.round + 2)
    assert not friend.status().banned  # who passes on what is worthless does so to nobody's harm
    assert KEY.peer_id not in attacked.rounds()[-1].row
    assert friend.status().peer_id in attacked.rounds()[-1].row


@pytest.mark.slow  # a ban outlives a restart in tests/peerd/test_resume_bans.py and tests/crash too
def test_the_ban_survives_a_restart_and_is_lifted_by_hand(attacked):
    assert attacked.stop() == 0
    attacked.start()
    attacked.until(is_banned)
    (banned,) = attacked.json("peers")["data"]["banned"]
    assert (banned["peer_id"], banned["bans"]) == (KEY.peer_id, 1)

    assert attacked.run("unban", KEY.peer_id).returncode == 0
    attacked.until(lambda status: not is_banned(status))
    assert attacked.json("peers")["data"]["banned"] == []
