"""Neighbours hand each other back what was heard of their identities: so each of two with one identity is told.

libp2p knows one peer by one id. Of two daemons with the same key, a common neighbour speaks to the one that came first;
the other hears nobody and is heard by nobody, and gossip carries neither's words to the other. So each daemon tells one
neighbour after the other what it said last, and is handed what the neighbour heard last of another run with that key.
Both are announcements signed with the key, so the answer proves itself; what it means is for the core to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import trio

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.net import limits
from peerd.net.libp2p.frames import opened, read_exactly
from peerd.net.libp2p.guard import attempt
from peerd.net.libp2p.host import is_connected
from peerd.net.transport import Heard
from peerd.wire.framing import HEADER_BYTES, body_length, frame
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, Announcement

ECHO_SECONDS = 5.0  # for both messages of 4 KB


class Echo:
    """Both sides of one node."""

    def __init__(self, host: Any, protocol: str, network: Digest, tell: Callable[[Heard], None]) -> None:
        self._host, self._protocol, self._network, self._tell = host, protocol, network, tell
        self._echoes = limits.Echoes()
        self.said: bytes | None = None
        """What this node said last."""
        host.set_stream_handler(protocol, self._answer)

    def heard(self, said: Announcement, message: bytes) -> None:
        """A neighbour said it itself."""
        self._echoes.heard(said, message)

    async def keep_asking(self, accepted: Callable[[], Collection[PeerId]]) -> None:
        """One neighbour after the other, as long as the node runs."""
        asked = 0
        while True:
            await trio.sleep(limits.ECHO_PAUSE_SECONDS)
            if self.said is not None and (peers := sorted(accepted())):
                asked = (asked + 1) % len(peers)
                await attempt(self._ask, peers[asked], self.said)

    async def _ask(self, peer: PeerId, said: bytes) -> None:
        """An older version does not know the protocol; a neighbour that has nothing to hand back ends the stream."""
        if not is_connected(self._host, peer):  # a stream to it would dial it, be it while this node ends
            return
        async with opened(self._host, peer, self._protocol) as stream:
            with trio.fail_after(ECHO_SECONDS):
                await stream.write(frame(said, max_bytes=MAX_ANNOUNCEMENT_BYTES))
                if (answer := await _one_frame(stream)) is not None:
                    self._tell(Heard(answer, peer))

    async def _answer(self, stream: Any) -> None:
        peer = PeerId(str(stream.muxed_conn.peer_id))
        with trio.fail_after(ECHO_SECONDS):
            message = await _one_frame(stream)
            said = None if message is None else limits.announced_here(message, self._network)
            if message is not None and said is not None and said.peer == peer:
                self._echoes.heard(said, message)
                if (words := self._echoes.of(peer, besides=said.epoch)) is not None:
                    await stream.write(frame(words, max_bytes=MAX_ANNOUNCEMENT_BYTES))
            await stream.close()


async def _one_frame(stream: Any) -> bytes | None:
    """None where it says that it is longer than an announcement."""
    length = body_length(await read_exactly(stream, HEADER_BYTES), max_bytes=MAX_ANNOUNCEMENT_BYTES)
    return None if isinstance(length, Refusal) else await read_exactly(stream, length)
