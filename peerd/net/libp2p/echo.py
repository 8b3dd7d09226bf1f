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

from p2pfinetune.names import Digest, PeerId
from peerd.net import limits
from peerd.net.exchanges import Asked, Exchange
from peerd.net.libp2p import asking
from peerd.net.libp2p.guard import attempt
from peerd.net.libp2p.host import is_connected
from peerd.net.transport import Heard
from peerd.wire.envelope import opened
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, Announcement

ECHO_SECONDS = 5.0  # for both messages of 4 KB


def echo_exchange(network: Digest) -> Exchange:
    """Asks with what I said last; answers with the last words of another run of the asker's, or not at all."""
    return Exchange(
        protocol=f"/peerd/{network}/echo/1",
        max_request_bytes=MAX_ANNOUNCEMENT_BYTES,
        max_answer_bytes=MAX_ANNOUNCEMENT_BYTES,
        patience_seconds=ECHO_SECONDS,
        for_anybody=True,  # who asks proves by a signature of this network's that it may
    )


class Echo:
    """Both sides of one node."""

    def __init__(self, host: Any, network: Digest, tell: Callable[[Heard], None], count: Callable[[str], None]) -> None:
        self._host, self._network, self._tell = host, network, tell
        self._exchange, self._echoes = echo_exchange(network), limits.Echoes()
        self.said: bytes | None = None
        """What this node said last."""
        self.answering = asking.Answering(self._exchange, self._answer, count)
        host.set_stream_handler(self._exchange.protocol, self.answering.serve)

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
                await attempt(self.ask, peers[asked], self.said)

    async def ask(self, peer: PeerId, said: bytes) -> None:
        """An older version does not know the protocol; a neighbour that has nothing to hand back ends the stream."""
        if not is_connected(self._host, peer):  # a stream to it would dial it, be it while this node ends
            return
        answer = await asking.ask(self._host, peer, self._exchange, said)
        if isinstance(answer, bytes):
            self._tell(Heard(opened(answer), peer))

    async def _answer(self, asked: Asked) -> bytes | None:
        """Nothing is handed to anybody but what its own key has signed."""
        if not isinstance(asked.request, bytes):
            return None
        said = limits.announced_here(opened(asked.request), self._network)
        if said is None or said.peer != asked.peer:
            return None
        self._echoes.heard(said, asked.request)
        return self._echoes.of(asked.peer, besides=said.epoch)
