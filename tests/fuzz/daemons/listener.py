"""The stranger as it is dialled: nonsense at each stage of the other end, or a proper peer that serves what it likes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import trio
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519
from libp2p.crypto.x25519 import create_new_key_pair
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.transport import Transport as Noise
from libp2p.stream_muxer.yamux.yamux import Yamux

from p2pfinetune.names import Digest, Refusal
from peerd.net.libp2p.frames import read_exactly, read_message
from peerd.net.libp2p.guard import attempt
from peerd.net.libp2p.node import blob_protocol
from peerd.wire.framing import frame, pack
from peerd.wire.keys import PeerKey
from peerd.wire.messages import BlobReply, BlobRequest
from tests.attackers.line import anywhere
from tests.fuzz.daemons.nonsense import drip, of_negotiation

VISIT_SECONDS = 6.0
HELLO = b"\x13/multistream/1.0.0\n"


class Listener:
    """One address of one identity."""

    def __init__(
        self, dice: random.Random, key: PeerKey, network: str, blobs: Mapping[Digest, bytes], done: Counter[str]
    ) -> None:
        self._dice, self._key, self._blobs, self._done = dice, key, blobs, done
        self._blob = blob_protocol(Digest(network))

    async def run(self, *, task_status: Any) -> None:
        """Tells its address, and takes connections until cancelled."""
        host = anywhere()
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        port = listener.socket.getsockname()[1]
        task_status.started(f"/ip4/{host}/tcp/{port}/p2p/{self._key.peer_id}")
        await trio.serve_listeners(self._take, [listener])

    async def _take(self, tcp: trio.SocketStream) -> None:
        self._done["dialled"] += 1
        with trio.move_on_after(VISIT_SECONDS):
            await attempt(self._welcome, tcp)
        await trio.aclose_forcefully(tcp)

    async def _welcome(self, tcp: trio.SocketStream) -> None:
        stage = self._dice.choice(("bare", "noise", "muxer", "proper", "proper", "proper"))
        self._done[f"dialled, {stage}"] += 1
        raw = RawConnection(TrioTCPStream(tcp), False)
        if stage == "bare":
            await drip(self._dice, raw.write, of_negotiation(self._dice))
            await trio.sleep(0.5)
            return
        await agree(raw)
        if stage == "noise":
            length = self._dice.choice((0, 32, 96, 65535))
            await drip(self._dice, raw.write, length.to_bytes(2, "big") + self._dice.randbytes(min(length, 200)))
            await trio.sleep(0.5)
            return
        pair = ed25519(self._key.seed)
        secure = await Noise(pair, noise_privkey=create_new_key_pair().private_key).secure_inbound(raw)
        if stage == "muxer":
            await drip(self._dice, secure.write, of_negotiation(self._dice))
            await trio.sleep(0.5)
            return
        await agree(secure)
        muxer = Yamux(secure, secure.get_remote_peer(), is_initiator=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxer.start)
            while True:
                nursery.start_soon(attempt, self.answer, await muxer.accept_stream())

    async def answer(self, stream: Any) -> None:
        """A stream that the other side opens."""
        if self._dice.random() < 0.2:
            await drip(self._dice, stream.write, of_negotiation(self._dice))
            return
        asked = await agree(stream)
        if asked.strip().decode() == self._blob:
            await self._serve(stream)
        elif self._dice.random() < 0.2:
            await drip(self._dice, stream.write, self._dice.randbytes(50))

    async def _serve(self, stream: Any) -> None:
        request = await read_message(stream, BlobRequest, max_bytes=512)
        if isinstance(request, Refusal):
            return
        content = self._blobs.get(request.blob, b"of nobody")
        how = self._dice.choice(("right", "right", "wrong", "cut", "slow", "nonsense", "longer", "absent", "size"))
        self._done[f"served, {how}"] += 1
        said = frame(pack(BlobReply(status="ok", size=len(content) + (how == "size"))), max_bytes=512)
        match how:
            case "wrong":
                said += bytes(len(content))
            case "cut":
                said = (said + content)[:-1]
            case "nonsense":
                said = self._dice.randbytes(60)
            case "longer":
                said += content + b"more"
            case "absent":
                said = frame(pack(BlobReply(status="absent")), max_bytes=512)
            case _:
                said += content[request.offset :]
        if how == "slow":
            for byte in said:
                await stream.write(bytes([byte]))
                await trio.sleep(0.1)
        else:
            await stream.write(said)
        await stream.close()


async def agree(line: Any) -> bytes:
    """To whatever protocol is asked for; which that is."""
    await line.write(HELLO)
    asked = b""
    for _ in range(2):
        length = (await read_exactly(line, 1))[0]
        if length > 127:
            length = length & 127 | (await read_exactly(line, 1))[0] << 7
        asked = await read_exactly(line, length)
    said = bytes([len(asked)]) if len(asked) < 128 else bytes([len(asked) & 127 | 128, len(asked) >> 7])
    await line.write(said + asked)
    return asked
