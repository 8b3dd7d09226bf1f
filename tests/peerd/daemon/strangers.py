"""A peer with a key of the network and no manners, on the wires between whole daemons in memory."""

from __future__ import annotations

import time
from random import Random

from peerd.net.transport import Found
from peerd.testing.store import MemoryBlobs
from peerd.wire.keys import PeerKey
from tests.fuzz.announcements import Mouth


class Stranger:
    """It knows where daemons listen, serves one blob that is an update, and says whatever it is told to."""

    def __init__(self, world, number, network, *, content=b"8.0"):
        self.key, self.blobs = PeerKey(bytes([number]) * 32), MemoryBlobs()
        self.content, self.digest = content, self.blobs.put(content)
        self.node = world.wires.node(self.key.peer_id, self.blobs, network)
        self.mouth = Mouth(
            Random(number),
            self.key,
            network,
            blobs=[(self.digest, len(content))],
            addresses=(self.node.address,),
            clock=lambda: int(time.time()),
        )

    @property
    def me(self):
        return self.key.peer_id

    async def meet(self, *others):
        await self.node.start()
        for other in others:
            await self.node.connect(other.me, (f"/memory/{other.me}",))

    def say(self, *envelopes):
        """All in one frame: nothing of the receiver runs in between, and its own transport's bounds are not asked."""
        from peerd.testing.network import _Gossip

        for envelope in envelopes:
            self.node._published += 1
            self.node._spread(_Gossip((self.me, self.node._published), envelope), {self.me})


def introduce(one, other):
    one.daemon._found(Found(other.me, (f"/memory/{other.me}/p2p/{other.me}",), "test"))


async def together(a, b):
    for one in (a, b):
        await one.until(lambda one=one: one.status().addresses and one.status().state != "starting")
    introduce(a, b)
    await a.until(lambda: b.me in a.daemon._network.connected())
    await b.until(lambda: a.me in b.daemon._network.connected())


def network_of(running):
    return running.daemon._performer.network_digest
