"""Nobody is spoken to but peers under a sound Ed25519 identity, in either direction."""

from __future__ import annotations

import contextlib

import pytest
from libp2p.crypto.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.rsa import create_new_key_pair as rsa
from libp2p.crypto.secp256k1 import create_new_key_pair as secp256k1

from peerd.net.libp2p.identity import REFUSED
from peerd.net.transport import Connected, Failed
from tests.attackers.stock import attacking, honest_peer_gets_its_blob, until

KINDS = {"rsa": lambda: rsa(2048), "secp256k1": secp256k1}


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_under_another_kind_of_key_is_refused_and_counted(play_libp2p, kind):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(pair=KINDS[kind]()) as attacker:
            with contextlib.suppress(Exception):  # it may be cut before or after it thinks that it is connected
                await attacker.dial(victim)
            await until(lambda: victim.transport.counts().get(REFUSED, 0) >= 1)  # py-libp2p dials again by itself
            await until(lambda: not attacker.host.get_network().get_connections())

            assert victim.transport.connected() == frozenset()
            assert not victim.saw(Connected)
        await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)


@pytest.mark.parametrize("kind", ["secp256k1"])
def test_who_is_dialled_and_answers_under_another_kind_of_key_is_refused(play_libp2p, kind):
    async def scenario(world):
        victim = await world.peer()
        async with attacking(pair=KINDS[kind]()) as attacker:
            assert await victim.transport.connect(attacker.id, attacker.addresses()) == Failed(
                "unreachable", "no address that can be dialled"
            )
            outcome = await victim.transport._ask(dial_past_the_filter, victim, attacker)

            assert isinstance(outcome, Failed)
            assert victim.transport.counts()[REFUSED] == 1
            assert victim.transport.connected() == frozenset()

    play_libp2p(scenario)


async def dial_past_the_filter(victim, attacker):
    """The id of such a key is no peer id to us, so its addresses are dropped before anything dials."""
    from libp2p.peer.id import ID
    from libp2p.peer.peerinfo import PeerInfo
    from multiaddr import Multiaddr

    address = attacker.addresses()[0].partition("/p2p/")[0]
    try:
        await victim.transport._node._host.connect(PeerInfo(ID.from_string(attacker.id), [Multiaddr(address)]))
    except Exception as error:  # of the library
        return Failed("unreachable", str(error))
    return None


class AnySignature(Ed25519PrivateKey):
    """Under the neutral element, whose signatures need no secret: R and S that fit whatever is signed."""

    def sign(self, data: bytes) -> bytes:
        return bytes([1]) + bytes(63)

    def get_public_key(self):
        return SmallOrder(bytes([1]) + bytes(31))


class SmallOrder(Ed25519PublicKey):
    """A point of order one."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def to_bytes(self) -> bytes:
        return self.raw

    def verify(self, data: bytes, signature: bytes) -> bool:
        return True


def test_who_comes_under_a_key_of_small_order_is_refused(play_libp2p):
    async def scenario(world):
        victim = await world.peer()
        private = AnySignature(Ed25519PrivateKey.new().impl)
        async with attacking(pair=KeyPair(private, private.get_public_key())) as attacker:
            with contextlib.suppress(Exception):
                await attacker.dial(victim)
            await until(lambda: victim.transport.counts().get("connections-failed", 0) >= 1)  # libsodium knows it, too

            assert not victim.saw(Connected)
        await honest_peer_gets_its_blob(world, victim)

    play_libp2p(scenario)
