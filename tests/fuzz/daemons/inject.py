"""Random exceptions out of whatever is awaited in the network: of our node, of py-libp2p below it, of what the shell asks.

One function at a time, drawn from all of them, is made to raise the next time it is entered or left; another one is
drawn when that has happened, or when nobody came by. The order of functions and of exceptions is the seed's.
"""

from __future__ import annotations

import functools
import inspect
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from libp2p.host.basic_host import BasicHost
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.security.noise.transport import Transport as Noise
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from peerd.daemon.link import SupervisedTransport
from peerd.net.libp2p import alive, blobs, gossip, muxer, node, pace, turns

EVERY_SECONDS = 1.0  # between two exceptions
PATIENCE_SECONDS = 3.0  # for somebody to come by
FIRST_SECONDS = 5.0  # nobody is disturbed before
OWNERS: tuple[Any, ...] = (
    node.Libp2pNode,
    blobs.BlobServer,
    blobs.BlobFetcher,
    gossip.GuardedPubsub,
    gossip.GuardedGossipSub,
    gossip.PacedStream,
    muxer.GuardedYamux,
    alive.WatchedYamux,
    turns.Turns,
    pace.Pace,
    SupervisedTransport,
    Swarm,
    SwarmConn,
    Yamux,
    YamuxStream,
    NetStream,
    SecureSession,
    Noise,
    TrioTCPStream,
    Multiselect,
    MultiselectClient,
    BasicHost,
    Pubsub,
    GossipSub,
)
SPARED = {  # whose end is that of the network or the daemon by what they are, or that are asked for before anything runs
    *((node.Libp2pNode, name) for name in ("run", "disconnect")),
    *((SupervisedTransport, name) for name in ("run", "stop", "_live", "_pump")),
    *((Swarm, name) for name in ("run", "listen", "close", "stop")),
    *(
        (kind, name)
        for kind in (Pubsub, gossip.GuardedPubsub, GossipSub)
        for name in ("run", "subscribe", "wait_until_ready")
    ),
    *((Pubsub, name) for name in ("handle_peer_queue", "handle_dead_peer_queue")),
    (BasicHost, "close"),
}


class Nobody(Exception):
    """Of no kind that anything expects."""


def exceptions(dice: random.Random) -> Exception:
    """One of many kinds."""
    makers: list[Callable[[], Exception]] = [
        lambda: Nobody("injected"),
        lambda: ValueError("injected"),
        lambda: KeyError("injected"),
        lambda: OSError(5, "injected"),
        lambda: b"\xff".decode() and ValueError(),  # type: ignore[return-value]
        lambda: ExceptionGroup("injected", [ValueError("one"), Nobody("another")]),
        lambda: AssertionError("injected"),
        lambda: RuntimeError("injected"),
        lambda: StopAsyncIteration("injected"),
        lambda: MemoryError("injected"),
    ]
    try:
        return dice.choice(makers)()
    except UnicodeDecodeError as error:
        return error


class Injector:
    """What is laid in one process."""

    def __init__(self, seed: int, tell: Callable[[dict[str, Any]], object]) -> None:
        self._dice, self._tell, self._lock = random.Random(f"inject {seed}"), tell, threading.Lock()
        self._names: list[str] = []
        self._next_at = time.monotonic() + FIRST_SECONDS
        self._chosen, self._until, self._leaving = "", 0.0, False

    def lay(self) -> None:
        """In the way of every coroutine function of `OWNERS`."""
        for owner in OWNERS:
            for name, function in list(vars(owner).items()):
                if inspect.iscoroutinefunction(function) and (owner, name) not in SPARED and not name.startswith("__"):
                    told = f"{owner.__name__}.{name}"
                    self._names.append(told)
                    setattr(owner, name, self._laid(told, function))

    def _laid(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def around(*arguments: Any, **options: Any) -> Any:
            if error := self._due(name, leaving=False):
                raise error
            found = await function(*arguments, **options)
            if error := self._due(name, leaving=True):
                raise error
            return found

        return around

    def _due(self, name: str, *, leaving: bool) -> Exception | None:
        now = time.monotonic()
        if now < self._next_at:
            return None
        with self._lock:
            if now > self._until:
                self._chosen, self._leaving = self._dice.choice(self._names), self._dice.random() < 0.5
                self._until = now + PATIENCE_SECONDS
            if name != self._chosen or leaving != self._leaving or now < self._next_at:
                return None
            self._next_at, self._until = now + EVERY_SECONDS, 0.0
            error = exceptions(self._dice)
        self._tell(
            {"at": now, "what": "injected", "peer": "", "why": f"{name} {'after' if leaving else 'before'}: {error!r}"}
        )
        return error
