"""What a discovery method is: it tells of peers and where they may be. It dials nobody and trusts nobody.

A find is a rumour: the core keeps it in a bounded table behind what the peer itself says, and pays for a knock where
nobody has answered (`peerd.core.knocks`). So a method may be wrong, be lied to, or tell the same thing again and again;
the worst that it can cause is a dial that fails. A method gets all that it may use in a `DiscoveryContext`, time and
dice included, and so is tried without a network.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from p2pfinetune.names import Digest, PeerId
from peerd.net.transport import Failed, Found
from peerd.store.port import KnownPeer
from peerd.wire.addresses import Address
from peerd.wire.messages import Register, Sample

Tell = Callable[[Found], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryContext:
    """All that a method may use of the daemon."""

    me: PeerId
    network: Digest
    addresses: Callable[[], tuple[str, ...]]
    """Where this daemon listens now, as the transport said: a network that was started again may have another port."""
    peers: tuple[Address, ...] = ()
    """Given by --peer."""
    bootstrap: tuple[Address, ...] = ()
    """Given by --bootstrap."""
    remembered: tuple[KnownPeer, ...] = ()
    """Kept in the store, the most recently good first."""
    register: Callable[[Address, Register], Awaitable[Sample | Failed]] | None = None
    """Ask a rendezvous node; None if the network has none."""
    asked: Callable[[Address, Failed | None], None] = lambda _node, _failed: None
    """Keep what became of asking a rendezvous node, for the user; None: it answered."""
    others: Callable[[Address, tuple[str, ...]], None] = lambda _node, _kinds: None
    """Keep in what the nearest other network differs that such a node knows; nothing: it knows of none."""
    random: random.Random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    """Seconds; less, and true, if `addresses` have changed meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryMethod(ABC):
    """Frozen fields are options."""

    @abstractmethod
    async def run(self, context: DiscoveryContext, tell: Tell) -> None:
        """Tell of peers as they are found; return when there is nothing more to find, or run until cancelled."""


async def discover(method: DiscoveryMethod, context: DiscoveryContext, tell: Tell) -> None:
    """Run a method until cancelled or finished. It never tells of oneself."""

    def tell_of_others(found: Found) -> None:
        if found.peer != context.me:
            tell(found)

    await method.run(context, tell_of_others)
