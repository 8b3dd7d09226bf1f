"""Peers given by hand. Told of again and again: the core forgets who is worth least, and a person is to be believed."""

from __future__ import annotations

from dataclasses import dataclass

from peerd.discovery._base import DiscoveryContext, DiscoveryMethod, Tell
from peerd.net.transport import Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers(DiscoveryMethod):
    """Peers named with --peer, told of again and again so that they are never forgotten.

    repeat_seconds: between two times.
    """

    repeat_seconds: float = 60.0

    async def run(self, context: DiscoveryContext, tell: Tell) -> None:
        """Tell of every given peer."""
        while context.peers:
            for address in context.peers:
                if address.peer is not None:
                    tell(Found(address.peer, (str(address),), "peer"))
            await context.sleep(self.repeat_seconds)
