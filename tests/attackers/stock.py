"""A stock libp2p host as an attacker beside its victims in one process; afterwards an honest peer still gets its blob."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import trio
from libp2p import generate_new_ed25519_identity, new_host
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from multiaddr import Multiaddr

from p2pfinetune.names import PeerId
from peerd.net.libp2p import host
from peerd.net.libp2p.bridge import Bridge
from peerd.net.libp2p.node import blob_protocol, hello_protocol
from peerd.net.transport import Connected, Fetched
from peerd.wire.addresses import parse_address

NETWORK = "a" * 64
BLOB = bytes(range(256)) * 8000  # two megabytes


class Attacker:
    """A stock libp2p host with no guards, in a thread of its own; `do` runs a trio function there."""

    def __init__(self, pair=None) -> None:
        self._pair = pair
        self._bridge = Bridge(self._main, name="attacker")

    async def _main(self, stopping: trio.Event, *, task_status) -> None:
        from libp2p.crypto.x25519 import create_new_key_pair

        pair = self._pair or generate_new_ed25519_identity()
        self.host = new_host(
            key_pair=pair, sec_opt={NOISE: Noise(pair, noise_privkey=create_new_key_pair().private_key)}
        )
        self.id = PeerId(str(self.host.get_id()))
        self.host.set_stream_handler(hello_protocol(NETWORK), _close)
        async with self.host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            task_status.started()
            await stopping.wait()
            await host.close(self.host)

    async def do(self, function, *arguments):
        return await self._bridge.call(function, *arguments)

    def addresses(self) -> list[str]:
        return [str(address) for address in self.host.get_addrs()]

    async def dial(self, peer) -> None:
        address = parse_address(peer.addresses[0])
        info = PeerInfo(ID.from_string(peer.id), [Multiaddr(address.transport)])
        await self.do(self.host.connect, info)

    async def connect(self, peer) -> None:
        await self.dial(peer)
        await until(lambda: self.id in peer.transport.connected())

    async def stream(self, peer, protocol: str):
        return await self.do(self.host.new_stream, ID.from_string(peer.id), [protocol])

    def serve_blobs(self, handler) -> None:
        self.host.set_stream_handler(blob_protocol(NETWORK), handler)


async def _close(stream) -> None:
    await stream.close()


@asynccontextmanager
async def attacking(*victims, pair=None):
    attacker = Attacker(pair)
    await attacker._bridge.start()
    try:
        for victim in victims:
            await attacker.connect(victim)
        yield attacker
    finally:
        await attacker._bridge.stop(4.0)


async def honest_peer_gets_its_blob(world, victim) -> None:
    honest = await world.peer()
    digest = victim.shelf.put(BLOB)
    assert isinstance(await honest.connect(victim), Connected)
    assert await honest.transport.fetch(digest, len(BLOB), [victim.id], 30.0) == Fetched(digest, victim.id, len(BLOB))


async def until(condition) -> None:
    """Poll a count that nobody announces."""
    async with asyncio.timeout(60.0):
        while not condition():  # noqa: ASYNC110  # a counter of another thread wakes nobody
            await asyncio.sleep(0.01)
