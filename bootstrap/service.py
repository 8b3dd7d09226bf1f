"""The rendezvous node on the network: a guarded libp2p host, one protocol, the pure registry behind it.

It stands on the same host as a daemon does (`peerd.net.libp2p`), with the same guard around every task, because it
meets the same strangers. Three things differ. It takes no gossip and dials nobody. A connection is for one question:
whoever stays longer than IDLE_SECONDS, or twice that, is shown out, or a few hundred idle peers would be all that it
can serve. And it keeps nothing but its key on disk: after a restart peers register again within minutes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio

from bootstrap.registry import State, register
from p2pfinetune.names import PeerId, Refusal
from peerd.machine import known_types
from peerd.machine.ending import asked_by
from peerd.machine.orphans import bury_strangers
from peerd.net.exchanges import Asked
from peerd.net.libp2p.asking import Answering
from peerd.net.libp2p.dialling import keep_what_is_heard
from peerd.net.libp2p.guard import Guard
from peerd.net.libp2p.host import close, make_host, parse_listen, running
from peerd.net.rendezvous import RENDEZVOUS
from peerd.wire.framing import pack, unpack
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Register, Sample

MAX_CONNECTIONS = 256
WARN_SECONDS = 3600.0  # between two warnings of one kind: strangers decide how often there is a reason
WORDS = {
    "key": "somebody came who has a group key that this node lacks, or is no peerd, and could not be served. If it is "
    "of your group, start this node with the same key: peerd-bootstrap start --group-key FILE",
    "no-key": "somebody came without a group key, which this node has, and could not be served. If it is of your "
    "group, it needs the same key: peerd start --group-key FILE",
}
IDLE_SECONDS = 30.0  # a peer that came to register leaves again, or is shown out


class Rendezvous:
    """Answers Register with Sample. The state is replaced at each step and never shared."""

    def __init__(
        self,
        state: State,
        now: Callable[[], float],
        dice: random.Random,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`warn` is told in words of those who cannot be understood."""
        self.state, self.counts = state, Counter[str]()
        self._now, self._dice, self._warn = now, dice, warn
        self._warned: dict[str, float] = {}
        self.serve = Answering(RENDEZVOUS, self._asked, self.count).serve
        """One exchange on one stream."""

    def answer(self, peer: PeerId, host: str, message: Register | Refusal) -> Sample:
        if isinstance(message, Refusal):
            self.count(message.reason)
            return Sample(status="bad-request")
        self.state, sample = register(self.state, self._now(), peer, host, message, self._dice)
        self.count(sample.status)
        return sample

    def count(self, what: str) -> None:
        """For the log at the end."""
        self.counts[what] += 1

    def met(self, kinds: Iterable[str]) -> None:
        """Somebody came whose connection failed for a group key; said of each kind once an hour, whoever it was."""
        for kind in kinds:
            self.count(f"met-{kind}")
            if self._now() >= self._warned.get(kind, -math.inf) + WARN_SECONDS:
                self._warned[kind] = self._now()
                self._warn(WORDS[kind])

    async def _asked(self, asked: Asked) -> bytes:
        """Who sends something else is told so, once."""
        request = asked.request
        if isinstance(request, bytes):
            message = unpack(request, Register, max_bytes=RENDEZVOUS.max_request_bytes)
        else:
            message = request
        return pack(self.answer(asked.peer, asked.place, message))


async def run(
    key: PeerKey,
    listen: Sequence[str],
    psk: str | None,
    ready: Callable[[tuple[str, ...]], None],
    dice: random.Random,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Serve until it is asked to end; returns what happened, counted. Raises TransportError when it cannot listen."""
    known_types.work_out()
    addresses = parse_listen(listen)
    bury_strangers(list)  # it has no children of its own
    rendezvous = Rendezvous(State(), trio.current_time, dice, warn)
    guard = Guard(rendezvous.count)
    host = make_host(key, max_connections=MAX_CONNECTIONS, max_inbound=MAX_CONNECTIONS, psk=psk, guard=guard)
    keep_what_is_heard(host, rendezvous.met)
    host.set_stream_handler(RENDEZVOUS.protocol, rendezvous.serve)
    with trio.open_signal_receiver(*asked_by()) as signals:
        async with running(host, addresses) as told, trio.open_nursery() as nursery:
            nursery.start_soon(guard.keep, "memory", host.get_peerstore().start_cleanup_task, 60)
            nursery.start_soon(guard.keep, "show-out", _show_out, host, guard)
            ready(told)
            async for _ in signals:
                break
            await close(host)
            nursery.cancel_scope.cancel()
    return dict(rendezvous.counts)


async def _show_out(host: Any, guard: Guard) -> None:
    """Close connections that stay: there are only so many, and nobody needs one for long."""
    before: set[Any] = set()
    while True:
        await trio.sleep(IDLE_SECONDS)
        present = set(host.get_network().get_connections())
        for connection in before & present:
            with trio.move_on_after(1):
                await guard.run("show-out", None, connection.close)
        before = present - before
