"""A hostile member of the network: takes the newest update of an honest peer, spoils it, and publishes it as its own.

It speaks the whole protocol in order: bootstrap node, handshake, signed announcement, served blob. Without torch: it
only knows that a bf16 entry is two bytes with the sign in the upper one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from p2pfinetune.names import Digest, Refusal
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Fetched, Heard
from peerd.store.blobs import FileBlobs
from peerd.wire.addresses import parse_address
from peerd.wire.envelope import seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement, Register, Sample

PAUSE_SECONDS = 5.0
LENGTH_BYTES = 8  # of a safetensors header's length


def _spoiled(change: Callable[[bytearray, int], None]) -> Callable[[bytes], bytes]:
    """`change` is given the bytes and where the entries begin."""

    def spoil(blob: bytes) -> bytes:
        body = bytearray(blob)
        change(body, LENGTH_BYTES + int.from_bytes(blob[:LENGTH_BYTES], "little"))
        return bytes(body)

    return spoil


def _flip_signs(body: bytearray, begin: int) -> None:
    for place in range(begin + 1, len(body), 2):
        body[place] ^= 0x80


def _scale(body: bytearray, begin: int) -> None:
    """Times 256: eight more in the exponent, whose upper seven bits stand behind the sign."""
    for place in range(begin + 1, len(body), 2):
        if body[place] & 0x7F:
            body[place] = min((body[place] & 0x7F) + 4, 0x7E) | body[place] & 0x80


def _not_finite(body: bytearray, begin: int) -> None:
    for place in range(begin, len(body) - 1, 2):
        body[place : place + 2] = b"\xc0\x7f"


SPOILS: Mapping[str, Callable[[bytes], bytes]] = MappingProxyType(
    {
        "sign-flip": _spoiled(_flip_signs),
        "scaled": _spoiled(_scale),
        "not-finite": _spoiled(_not_finite),
        "garbage": lambda blob: random.randbytes(len(blob)),
        "replay": lambda blob: blob,  # and the envelope of an honest peer once more, below
    }
)


class Poisoner:
    """Joins, listens, lies."""

    def __init__(self, kind: str, network: Digest, bootstrap: str, folder: Path, listen: str) -> None:
        self._spoil, self._kind, self._network = SPOILS[kind], kind, network
        found = parse_address(bootstrap)
        assert not isinstance(found, Refusal)
        self._bootstrap = found
        folder.mkdir(parents=True, exist_ok=True)
        self._key = PeerKey.load_or_create(folder / "identity")
        self._shelf = FileBlobs(folder / "blobs")
        self._transport = Libp2pTransport(self._key, network, self._shelf, listen=(listen,))
        self._heard: dict[str, tuple[bytes, Announcement]] = {}
        self._sequence = 0
        self.told = 0

    async def run(self, seconds: float) -> None:
        """Until the time is over."""
        addresses = await self._transport.start()
        try:
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(), name="listen")
                while True:
                    await self._join(addresses)
                    await self._lie(addresses)
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            pass
        finally:
            await self._transport.stop()

    async def _join(self, addresses: tuple[str, ...]) -> None:
        sample = await self._transport.register(self._bootstrap, Register(network=self._network, addresses=addresses))
        for record in sample.peers if isinstance(sample, Sample) else ():
            if record.peer not in self._transport.connected():
                await self._transport.connect(record.peer, record.addresses)

    async def _listen(self) -> None:
        async for event in self._transport.events():
            if isinstance(event, Heard):
                said = event.envelope.said
                if isinstance(said, Announcement) and said.peer != self._transport.me:
                    self._heard[said.peer] = (event.envelope.data, said)

    async def _lie(self, addresses: tuple[str, ...]) -> None:
        if not self._heard:
            return
        envelope, honest = random.choice(list(self._heard.values()))
        if self._kind == "replay":
            await self._transport.publish(envelope)
        got = await self._transport.fetch(honest.blob, honest.size, [honest.peer], 20.0)
        if not isinstance(got, Fetched):
            return
        lie = self._spoil(self._shelf.read(honest.blob, 0, honest.size))
        self._sequence += 1
        changed = {"peer": self._transport.me, "epoch": int(time.time()), "sequence": self._sequence}
        blob = {"blob": self._shelf.put(lie), "size": len(lie), "name": "a friend", "addresses": addresses}
        await self._transport.publish(seal(self._key, msgspec.structs.replace(honest, **changed, **blob)))
        self.told += 1


def main() -> None:
    """`python -m tests.soak.poisoner sign-flip NETWORK BOOTSTRAP --seconds 60 --folder DIR`."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.poisoner")
    parser.add_argument("kind", choices=sorted(SPOILS))
    parser.add_argument("network")
    parser.add_argument("bootstrap")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--listen", default="/ip4/127.0.0.1/tcp/0")
    given = parser.parse_args()
    poisoner = Poisoner(given.kind, Digest(given.network), given.bootstrap, given.folder, given.listen)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(poisoner.run(given.seconds))
    print(f"{poisoner.told} spoiled updates published")


if __name__ == "__main__":
    main()
