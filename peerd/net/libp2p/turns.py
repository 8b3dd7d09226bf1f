"""Who is served next: so many at once, half of them at most for one place (or relay), one for each peer.

Peer ids cost nothing and a slow reader holds its turn for long, so a crowd behind one address must leave turns to all
others; and who waits must not keep others from waiting.

A turn is three locks, taken in this order: its peer's, its place's, one of all. Whoever waits for the narrower ones
holds none of the wider, so a crowd that waits for its place's half takes no turn from anybody else. The order is the
same for everybody, so there is no cycle to wait in. How many may wait has the same four bounds: all, a crowd, a place,
a peer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import trio

from p2pfinetune.names import PeerId
from peerd.net import limits
from peerd.wire.places import crowd_of

Turn = TypeVar("Turn")


class ByName(Generic[Turn]):
    """A lock or semaphore by name; one that nobody holds or awaits is forgotten."""

    def __init__(self, make: Callable[[], Turn]) -> None:
        self._make = make
        self._made: WeakValueDictionary[str, Turn] = WeakValueDictionary()

    def get(self, name: str) -> Turn:
        """The same for all who ask while anybody holds it."""
        if (found := self._made.get(name)) is None:
            found = self._made[name] = self._make()
        return found


class Turns:
    """Turns to be served, given in the order of asking."""

    def __init__(self, most: int, patience_seconds: float = limits.UPLOAD_PATIENCE_SECONDS) -> None:
        """`patience_seconds`: for how long one waits for its turn at most."""
        self._turns, self._peers = trio.Semaphore(most), ByName(trio.Lock)
        self._places = ByName(partial(trio.Semaphore, max(1, most // 2)))
        self._waiting, self._patience_seconds = Counter[str](), patience_seconds

    @asynccontextmanager
    async def of(self, peer: PeerId, place: str) -> AsyncIterator[bool]:
        """False if the turn did not come in time, or too many wait already."""
        async with AsyncExitStack() as held:
            mine = await self._wait(held, peer, place)
            if not mine:
                await held.aclose()
            yield mine

    async def _wait(self, held: AsyncExitStack, peer: PeerId, place: str) -> bool:
        crowd = crowd_of(place)
        most = {"": limits.MAX_WAITING, crowd: limits.MAX_WAITING // 2, place: limits.MAX_WAITING_PER_ADDRESS}
        most |= {peer: limits.MAX_WAITING_PER_PEER}
        if any(self._waiting[name] >= limit for name, limit in most.items()):
            return False
        self._waiting.update(most.keys())
        try:
            with trio.move_on_after(self._patience_seconds) as patience:
                for turn in (self._peers.get(peer), self._places.get(crowd), self._turns):
                    await turn.acquire()
                    held.callback(turn.release)
        finally:
            self._waiting.subtract(most.keys())
            self._waiting += Counter()  # without those at zero
        return not patience.cancelled_caught
