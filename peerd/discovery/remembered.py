"""Peers that were good before the last restart, so that a network without a rendezvous node finds itself again."""

from __future__ import annotations

from dataclasses import dataclass

from peerd.discovery._base import DiscoveryContext, DiscoveryMethod, Tell
from peerd.net.transport import Found
from peerd.wire.addresses import dialable


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedPeers(DiscoveryMethod):
    """Peers kept on disk, the most recently good first.

    limit: at most so many are told of.
    """

    limit: int = 32

    async def run(self, context: DiscoveryContext, tell: Tell) -> None:
        """Tell of them once; from then on the daemon knows them."""
        for known in context.remembered[: self.limit]:
            if addresses := dialable(known.addresses, known.peer):
                tell(Found(known.peer, tuple(map(str, addresses)), "remembered"))
