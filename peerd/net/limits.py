"""Every bound a network back end keeps, and the small bounded things both back ends share. No sockets, no clock."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from p2pfinetune.names import Digest, PeerId
from peerd.net.transport import Connected, Disconnected, Found, Happening, Heard, PeerTraffic
from peerd.wire.envelope import open_announcement
from peerd.wire.messages import Announcement

MAX_HAPPENINGS = 2048  # waiting for the shell; some megabytes at most, since a Heard holds up to 4 KB
MAX_TRAFFIC_PEERS = 1024  # of whom bytes are remembered
MAX_KNOWN_PEERS = 1024  # whose last addresses are kept for a redial
MAX_UPLOADS = 8  # blobs served at one time
UPLOAD_PATIENCE_SECONDS = 5.0  # how long a request waits for its turn before `busy`
CONNECT_SECONDS = 15.0  # for all addresses of one peer together
CHUNK_BYTES = 256 * 1024  # read from the shelf and written to it at one time
MESSAGES_A_SECOND = 20.0  # gossip from one forwarder, lastingly
MESSAGE_BURST = 200.0  # and at once: a late joiner is handed the last heartbeats' messages


def worth_forwarding(message: bytes, network: Digest) -> bool:
    """Gossip carries validly signed announcements of the own network and nothing else; the rest ends at the first peer.

    It is still handed up as `Heard`, so that whoever passed it on is counted for it.
    """
    announcement = open_announcement(message)
    return isinstance(announcement, Announcement) and announcement.network == network


@dataclass(slots=True)
class TokenBucket:
    """So many a second lastingly, so many at once."""

    rate: float
    burst: float
    level: float = field(default=0.0)
    """How much of the burst is used up at `updated`."""
    updated: float = 0.0

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now` (monotonic seconds)."""
        self.level = max(0.0, self.level - (now - self.updated) * self.rate)
        self.updated = now
        if self.level + 1.0 > self.burst:
            return False
        self.level += 1.0
        return True


class TrafficLedger:
    """Bytes by peer; the peers longest without traffic fall out. Safe from any thread."""

    def __init__(self, limit: int = MAX_TRAFFIC_PEERS) -> None:
        self._limit = limit
        self._rows: OrderedDict[PeerId, PeerTraffic] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, peer: PeerId, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Count bytes of payloads and announcements."""
        with self._lock:
            row = self._rows.pop(peer, PeerTraffic())
            self._rows[peer] = PeerTraffic(row.bytes_in + bytes_in, row.bytes_out + bytes_out)
            if len(self._rows) > self._limit:
                self._rows.popitem(last=False)

    def snapshot(self) -> dict[PeerId, PeerTraffic]:
        """A copy."""
        with self._lock:
            return dict(self._rows)


class Happenings:
    """A bounded queue from any thread to one reader on the asyncio loop; overflow drops `Heard` first, counted."""

    def __init__(self, limit: int = MAX_HAPPENINGS) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: deque[Happening] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closed = False
        self._roused = False

    def put(self, happening: Happening) -> None:
        """Never blocks. Once closed, nothing more is taken."""
        with self._lock:
            if self._closed:
                return
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                if isinstance(happening, Heard | Found) or not self._make_room():
                    return
            self._waiting.append(happening)
        self._rouse()

    def close(self) -> None:
        """What is waiting is still read, then the reader ends."""
        with self._lock:
            self._closed = True
        self._rouse()

    async def read(self) -> AsyncIterator[Happening]:
        """Everything in order, until closed. One reader at a time."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        while True:
            with self._lock:
                self._wake.clear()
                self._roused = False
            while (happening := self._next()) is not None:
                yield happening
            if self._closed and not self._waiting:
                return
            await self._wake.wait()

    def _next(self) -> Happening | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _make_room(self) -> bool:
        """Drop the oldest message, or else the oldest find; a connection's coming and going only if it must be."""
        for droppable in (Heard, Found, Connected | Disconnected):
            for index, waiting in enumerate(self._waiting):
                if isinstance(waiting, droppable):
                    del self._waiting[index]
                    return True
        return False

    def _rouse(self) -> None:
        """Wake the reader with one callback at a time, so that a blocked loop collects no pile of them."""
        with self._lock:
            loop, wake = self._loop, self._wake
            if self._roused or loop is None or wake is None:
                return
            self._roused = True
        try:
            loop.call_soon_threadsafe(wake.set)
        except RuntimeError:  # the loop is closed, and with it the reader is gone
            self._loop = None
