"""Peers given by hand."""

from __future__ import annotations

from dataclasses import dataclass

from peerd.discovery._base import DiscoveryMethod, Surroundings, Tell
from peerd.net.transport import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers(DiscoveryMethod):
    """Peers named with --peer, told of again and again so that they are never forgotten.

    repeat_seconds: between two times.
    """

    repeat_seconds: float = 60.0

    async def run(self, surroundings: Surroundings, tell: Tell) -> None:
        """Tell of every given peer."""
        while surroundings.peers:
            for address in surroundings.peers:
                if address.peer is not None:
                    tell(Found(address.peer, (str(address),), "peer"))
            await surroundings.sleep(self.repeat_seconds)
