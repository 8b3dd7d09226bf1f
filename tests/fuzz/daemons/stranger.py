"""The stranger: at each stage of a connection, from either end of it, something else than the other side waits for.

    python -m tests.fuzz.daemons.stranger PLAN

PLAN is a JSON document: targets (multiaddrs), bootstrap, network, seed, seconds. What was done is printed, by stage.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio
from libp2p import generate_new_ed25519_identity
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519
from libp2p.crypto.rsa import create_new_key_pair as rsa
from libp2p.crypto.secp256k1 import create_new_key_pair as secp256k1
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils import encode_varint_prefixed

from p2pfinetune.names import Digest
from peerd.wire.framing import frame, pack
from peerd.wire.keys import PeerKey
from peerd.wire.messages import BlobRequest, Register
from tests.attackers.floods import MESHSUB, gossip, header
from tests.attackers.line import Target, is_ours, line, member, secured
from tests.fuzz.announcements import Mouth
from tests.fuzz.daemons.listener import Listener
from tests.fuzz.daemons.nonsense import drip, of_negotiation

WORKERS = 3
REST_SECONDS = 0.1
STAGE_SECONDS = 6.0  # for one visit
CONTENTS = (b"8.0", b"9.5", b"1e999", b"not an update", b"[1]", b"7.25" + b" " * 900)
RENDEZVOUS = "/peerd/rendezvous/2"


class Stranger:
    """One visit after the other, each by a new identity from a new address."""

    def __init__(self, plan: dict, dice: random.Random) -> None:
        self.dice, self.done = dice, Counter()
        self.network, self.bootstrap = plan["network"], plan["bootstrap"]
        self.targets = plan["targets"]
        self.blobs = {Digest(hashlib.sha256(content).hexdigest()): content for content in CONTENTS}
        self.stages: dict[str, Callable[[Target], Awaitable[None]]] = {
            "bare": self.bare,
            "identity": self.identity,
            "muxer": self.muxer,
            "frames": self.frames,
            "streams": self.streams,
            "requests": self.requests,
            "greeting": self.greeting,
            "gossip": self.gossip,
            "company": self.company,
            "registration": self.registration,
        }

    def target(self, *, node: bool = False) -> Target:
        address = self.bootstrap if node or self.dice.random() < 0.1 else self.dice.choice(self.targets)
        return Target(address, self.network, "many")

    async def visits(self, nursery: trio.Nursery) -> None:
        """Until cancelled."""
        self._nursery = nursery
        while True:
            name = self.dice.choice(sorted(self.stages))
            with trio.move_on_after(STAGE_SECONDS):
                await self.bounded(name)
            self.done[name] += 1
            await trio.sleep(REST_SECONDS)

    async def bounded(self, name: str) -> None:
        try:
            await self.stages[name](self.target(node=name == "registration"))
        except Exception as error:  # of a library that was not made for this
            if is_ours(error):
                raise
            self.done[f"{name}, cut"] += 1
        except BaseExceptionGroup as group:
            _, other = group.split((Exception, trio.Cancelled))
            if other is not None or is_ours(group):
                raise
            if (cancelled := group.subgroup(trio.Cancelled)) is not None:
                raise cancelled from None
            self.done[f"{name}, cut"] += 1

    async def bare(self, target: Target) -> None:
        """Before anything is agreed on the port."""
        async with await target.tcp() as tcp:
            good = self.dice.choice((b"", b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x07/noise\n"))
            await drip(self.dice, tcp.send_all, good + of_negotiation(self.dice))
            await self.listen(tcp.receive_some)

    async def identity(self, target: Target) -> None:
        """A handshake of Noise under a key of another kind, or that breaks off."""
        kind = self.dice.randrange(4)
        if kind < 3:
            pair = (lambda: rsa(1024), secp256k1, lambda: ed25519(bytes(32)))[kind]()
            async with line(target, pair) as connection:
                await member(target, connection)
            return
        async with await target.tcp() as tcp:
            await tcp.send_all(b"\x13/multistream/1.0.0\n\x07/noise\n")
            length = self.dice.choice((0, 32, 48, 500, 65535))
            body = self.dice.randbytes(min(length, 600))
            await drip(self.dice, tcp.send_all, length.to_bytes(2, "big") + body)
            await self.listen(tcp.receive_some)

    async def muxer(self, target: Target) -> None:
        """Within Noise, before yamux is agreed."""
        async with secured(target, generate_new_ed25519_identity()) as connection:
            good = self.dice.choice((b"", b"\x13/multistream/1.0.0\n", b"\x13/multistream/1.0.0\n\x0d/yamux/1.0.0\n"))
            await drip(self.dice, connection.write, good + of_negotiation(self.dice))
            await self.listen(connection.read)

    async def frames(self, target: Target) -> None:
        """Frames of yamux as they come."""
        async with line(target) as connection:
            if self.dice.random() < 0.5:
                await member(target, connection)
            for _ in range(self.dice.randrange(1, 30)):
                dice = self.dice
                kind, flags = dice.choice((0, 0, 1, 2, 3, 7, 255)), dice.choice((0, 1, 2, 4, 8, 15, 0xFFFF))
                number, length = (
                    dice.choice((0, 1, 2, 3, 4, 7, 2**31, 2**32 - 1)),
                    dice.choice((0, 1, 10, 2**18, 2**32 - 1)),
                )
                body = dice.randbytes(min(length, 200)) if kind == yamux.TYPE_DATA else b""
                await connection.muxer.secured_conn.write(header(kind, flags, number, length) + body)
                await trio.sleep(0.01)

    async def streams(self, target: Target) -> None:
        """Streams on which nothing is agreed."""
        async with line(target) as connection:
            for _ in range(self.dice.randrange(1, 8)):
                stream = await connection.muxer.open_stream()
                good = self.dice.choice((b"", b"\x13/multistream/1.0.0\n"))
                await drip(self.dice, stream.write, good + of_negotiation(self.dice))
                await (stream.reset() if self.dice.random() < 0.5 else stream.close())

    async def requests(self, target: Target) -> None:
        """An agreed protocol, and then something else."""
        async with line(target) as connection:
            for name in self.dice.sample(
                ("hello", "blob", MESHSUB, "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", RENDEZVOUS), 3
            ):
                stream = await connection.stream(target.protocol(name))
                blob = self.dice.choice(list(self.blobs))
                asked = frame(pack(BlobRequest(blob=blob, offset=self.dice.choice((0, 1, 2**40)))), max_bytes=512)
                said = self.dice.choice(
                    (asked, asked[:-1], self.dice.randbytes(40), bytes(300), of_negotiation(self.dice))
                )
                await drip(self.dice, stream.write, said)
                await (stream.reset() if self.dice.random() < 0.5 else stream.close())

    async def greeting(self, target: Target) -> None:
        """What the other side opens is answered with nonsense; sometimes this side says hello properly."""

        async def answer(stream: object) -> None:
            await drip(self.dice, stream.write, of_negotiation(self.dice))  # type: ignore[attr-defined]

        async with line(target, answer=answer) as connection:
            if self.dice.random() < 0.3:
                await member(target, connection)
            await trio.sleep(self.dice.random() * 2.0)

    async def gossip(self, target: Target) -> None:
        """Validly signed announcements at and beyond their bounds, in any order, by peers that nobody can reach."""
        key = PeerKey(self.dice.randbytes(32))
        async with line(target, ed25519(key.seed)) as connection:
            mouth = self.mouth(key, ())
            await self.speak(target, connection, mouth, self.dice.randrange(1, 30))

    async def company(self, target: Target) -> None:
        """A peer that can be reached: announced, dialled, asked for what it announced, and banned."""
        key = PeerKey(self.dice.randbytes(32))
        listener = Listener(self.dice, key, self.network, self.blobs, self.done)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(listener.run)
            if self.dice.random() < 0.5:
                await self.register(self.bootstrap, key, (address,), self.network)
            async with line(target, ed25519(key.seed), answer=listener.answer) as connection:
                mouth = self.mouth(key, (address,))
                await self.speak(target, connection, mouth, self.dice.randrange(1, 8))
                await trio.sleep(self.dice.random() * 3.0)
                if self.dice.random() < 0.5:
                    await self.speak(target, connection, mouth, 0, mouth.ban())
                await trio.sleep(self.dice.random() * 2.0)
            nursery.cancel_scope.cancel()

    async def registration(self, target: Target) -> None:
        """At the bootstrap node."""
        key = PeerKey(self.dice.randbytes(32))
        odd = ("/ip4/127.0.0.1/tcp/1", "x" * 256, "/ip4/0.0.0.0/tcp/0", "/dns4/localhost/tcp/1\n", "\ud7ff", "")
        addresses = tuple(self.dice.sample(odd, self.dice.randrange(len(odd))))
        await self.register(
            target.address, key, addresses, self.dice.choice((self.network, self.dice.randbytes(32).hex()))
        )

    async def register(self, node: str, key: PeerKey, addresses: tuple[str, ...], network: str) -> None:
        target = Target(node, self.network, "many")
        async with line(target, ed25519(key.seed)) as connection:
            stream = await connection.stream(RENDEZVOUS)
            message = pack(Register(network=Digest(network), addresses=addresses, want=self.dice.choice((0, 8, 64))))
            spoilt = self.dice.random() < 0.3
            said = frame(self.dice.randbytes(60) if spoilt else message, max_bytes=8192)
            await drip(self.dice, stream.write, said)
            await stream.read(4096)

    def mouth(self, key: PeerKey, addresses: tuple[str, ...]) -> Mouth:
        blobs = [(digest, len(content)) for digest, content in self.blobs.items()]
        clock = lambda: int(time.time())  # noqa: E731
        return Mouth(self.dice, key, Digest(self.network), blobs=blobs, addresses=addresses, clock=clock, epoch=clock())

    async def speak(
        self, target: Target, connection, mouth: Mouth, count: int, at_once: list[bytes] | None = None
    ) -> None:
        if target.address != self.bootstrap:
            await member(target, connection)
        stream = await connection.stream(MESHSUB)
        hello = rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=target.topic)])
        await stream.write(encode_varint_prefixed(hello.SerializeToString()))
        frames = [[mouth.anything()] for _ in range(count)] + ([at_once] if at_once else [])
        for messages in frames:
            publish = [gossip(connection, target.topic, message) for message in messages if len(message) <= 16_000]
            await stream.write(encode_varint_prefixed(rpc_pb2.RPC(publish=publish).SerializeToString()))
            self.done["announcements"] += len(publish)
            await trio.sleep(self.dice.random() * 0.1)

    async def listen(self, read) -> None:
        with trio.move_on_after(self.dice.random()):
            while await read(4096):
                pass


async def main(plan: dict) -> Counter[str]:
    """What was done."""
    stranger = Stranger(plan, random.Random(f"stranger {plan['seed']}"))
    with trio.move_on_after(plan["seconds"]):
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(stranger.visits, nursery)
            nursery.start_soon(report, stranger.done)
    return stranger.done


async def report(done: Counter[str]) -> None:
    """A line now and then, for whoever ends this early."""
    while True:
        await trio.sleep(1.0)
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    counted = trio.run(main, json.loads(Path(sys.argv[1]).read_text()))
    sys.stdout.write(json.dumps(counted) + "\n")
