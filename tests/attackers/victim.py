"""A peer in a process of its own, so that its memory can be measured: `python -m tests.attackers.victim`.

Prints its address and the digest of a blob it holds, then its counts for every line it reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys

import uvloop

from p2pfinetune.names import Digest
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Connected, Heard
from peerd.wire.keys import PeerKey

NETWORK = Digest("a" * 64)
BLOB = bytes(range(256)) * 8000  # two megabytes
SWITCH_SECONDS = 0.0002  # as the daemon


class Shelf:
    """One blob, and no place for another."""

    def __init__(self) -> None:
        self.digest = Digest(hashlib.sha256(BLOB).hexdigest())

    def size(self, digest: Digest) -> int | None:
        return len(BLOB) if digest == self.digest else None

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        return BLOB[offset : offset + length]


async def main() -> None:
    sys.setswitchinterval(SWITCH_SECONDS)
    shelf = Shelf()
    transport = Libp2pTransport(PeerKey(bytes([77]) * 32), NETWORK, shelf, listen=["/ip4/127.0.0.1/tcp/0"])
    (address, *_) = await transport.start()
    print(json.dumps({"address": address, "blob": shelf.digest}), flush=True)  # noqa: T201
    heard = {"heard": 0, "connected": 0}

    async def listen() -> None:
        async for event in transport.events():
            heard["heard"] += isinstance(event, Heard)
            heard["connected"] += isinstance(event, Connected)

    listener = asyncio.create_task(listen())
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps({**transport.counts(), **heard, "open": len(transport.connected())}), flush=True)  # noqa: T201
    await transport.stop()
    await listener


if __name__ == "__main__":
    uvloop.run(main())
