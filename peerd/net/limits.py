"""Every bound a network back end keeps, and the small bounded things both back ends share. No sockets, no clock.

The order of defence is the order in which a stranger costs something: a place to wait in (`Doors`), a handshake, a
stream, bytes unread, a signature to check, an event for the core. What is scarce for everybody (inbound connections,
turns to be served) has a bound for all and half of it for one place (`peerd.wire.places`), since ids cost nothing; the
rest is bounded for each connection or peer. Bounds for what the core keeps are in `peerd.core.limits`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Hashable
from typing import Generic, TypeVar

from p2pfinetune.names import Digest, PeerId
from peerd.net.transport import Connected, Disconnected, Found, Heard, PeerTraffic, TransportEvent
from peerd.wire.envelope import Envelope
from peerd.wire.messages import Announcement
from peerd.wire.places import crowd_of, place_of

MAX_TRANSPORT_EVENTS = 2048  # waiting for the shell; some megabytes at most, since a Heard holds up to 4 KB
ECHO_PAUSE_SECONDS = 10.0  # before the next neighbour is asked what it has heard of me last
MAX_ECHOES = 128  # neighbours whose announcements are kept to be handed back to them
MAX_RUNS = 3  # of each neighbour; 4 KB each: the last one, the one before, and that of a double
MAX_TRAFFIC_PEERS = 1024  # of whom bytes are remembered
MAX_SENT = 8192  # (peer, blob) pairs between two entries in the book of what was sent
MAX_KNOWN_PEERS = 1024  # whose last addresses are kept for a redial
MAX_UPLOADS = 8  # blobs served at one time, half of them to one place
MAX_WAITING = 64  # requests for a blob that wait for their turn
MAX_WAITING_PER_ADDRESS = 16
MAX_WAITING_PER_PEER = 2  # an honest peer asks for one blob at a time, and again after a broken connection
MAX_DOWNLOADS = 8  # blobs fetched at one time, as the core asks for
UPLOAD_PATIENCE_SECONDS = 5.0  # how long a request waits for its turn before `busy`
GOSSIP_CHECK_SECONDS = 10.0  # between two looks whether every connected peer is spoken to
CONNECT_SECONDS = 15.0  # for all addresses of one peer together
MAX_TOLD = 120  # characters of an exception of the library that people are shown
CHUNK_BYTES = 256 * 1024  # read from the shelf and written to it at one time
PACED_CHUNK_BYTES = 16 * 1024  # if the user limits the rate: py-libp2p gives up after 5 s without a window
MIN_PACE = 32 * 1024  # bytes a second that a limit leaves each transfer: at half of it the other side gives up
MESSAGES_A_SECOND = 20.0  # gossip from one forwarder, lastingly
MESSAGE_BURST = 200.0  # and at once: a late joiner is handed the last heartbeats' messages
GOSSIP_BYTES_A_SECOND = 256 * 1024  # of one peer's gossip that are read; three times what its messages can come to
GOSSIP_BYTES_BURST = 2 * 1024 * 1024
PLACE_FORWARDERS = 3.0  # forwarders of one place are heard as often as so many: a new identity brings no new share
MAX_MESSAGES_UNDER_WAY = 1024  # whose signature waits to be checked; 4 MB
MAX_CONTROLS = 16  # IHAVE, IWANT, GRAFT and PRUNE of each kind in one gossip frame; there is one topic to speak of
MAX_CONTROL_IDS = 64  # message ids in one of them: each may be answered with 4 KB
MAX_BACK_OFFS = 1024  # peers that left the mesh of a topic, of whom is remembered when; the spent ones then go

MAX_CONNECTIONS = 128  # in and out; some hundred kB each, and as many peers as a partial view of neighbours ever needs
MAX_INBOUND = 96  # so that strangers who take all they can get leave us places to dial from
MAX_PENDING = 64  # inbound connections that have not proved who they are; beyond, the oldest of them gives way
MAX_PENDING_PER_ADDRESS = 16
MAX_CONNECTIONS_PER_ADDRESS = 48  # half of what there is: peer ids are free, addresses less so; a demo is 127.0.0.1
UPGRADE_SECONDS = 8.0  # for TCP, Noise and yamux of an inbound connection together, over a slow line
NEGOTIATE_SECONDS = 10.0  # until a new stream has said which protocol it is for
WRITE_SECONDS = 60.0  # for a frame of 64 KB to leave, behind others; who reads slower is disconnected

CLOSE_SECONDS = (
    180.0  # for the other side to close a stream that we closed: 4 MB over a line of 32 kB a second take 128
)
MAX_STREAMS_PER_PEER = 16  # inbound, at one time; an honest peer needs five
MAX_STREAMS = 4096  # of all peers together; more than the places of all add up to, or a few could keep it full
MAX_NEGOTIATION_BYTES = 1024  # one message of multistream-select; go-libp2p has the same
STREAM_BUFFER_BYTES = 4 * 1024 * 1024  # the receive window of a stream that we opened: a fetch
MAX_UNREAD_BYTES = 256 * 1024  # on all streams together that the peer opened, which carry requests and gossip only
MAX_FRAME_BYTES = 256 * 1024  # of one yamux frame; others send at most 64 KB in one
FRAMES_A_SECOND = 500.0  # of one connection that carry next to nothing: pings, new streams, window updates
FRAME_BURST = 2000.0
PAYING_FRAME_BYTES = 4096  # a frame of so much, sent or received, pays for a small one


def transfers_within(most: int, bytes_a_second: int) -> int:
    """How many may share a rate, so that each keeps moving; 0 is no limit."""
    return most if not bytes_a_second else max(1, min(most, bytes_a_second // MIN_PACE))


def announced_here(envelope: Envelope, network: Digest) -> Announcement | None:
    """Gossip carries validly signed announcements of the own network and nothing else; the rest ends at the first peer.

    It is still handed up as `Heard`, so that whoever passed it on is counted for it.
    """
    said = envelope.said
    return said if isinstance(said, Announcement) and said.network == network else None


class Echoes:
    """The newest announcement of each run of each neighbour, as it came: handed back to a peer with that identity.

    Which run spoke last is told by when its words were sealed and not by when they came: anybody may bring words of a
    run that ended long ago, over and over, and must not have those of one that goes on forgotten.
    """

    def __init__(self, limit: int = MAX_ECHOES) -> None:
        self._limit = limit
        self._newest: OrderedDict[PeerId, dict[int, tuple[int, int, bytes]]] = OrderedDict()

    def heard(self, said: Announcement, message: bytes) -> None:
        """Keep it if it is the newest of its epoch. The run, and the peer, that has been silent longest falls out."""
        runs = self._newest.pop(said.peer, {})
        self._newest[said.peer] = runs
        kept = runs.get(said.epoch)
        if kept is None or (said.sequence, said.time) >= kept[:2]:
            runs[said.epoch] = (said.sequence, said.time, message)
        if len(runs) > MAX_RUNS:
            del runs[min(runs, key=lambda epoch: runs[epoch][1])]
        if len(self._newest) > self._limit:
            self._newest.popitem(last=False)

    def of(self, peer: PeerId, *, besides: int) -> bytes | None:
        """What was sealed last by another run of this identity than that of the epoch `besides`."""
        others = [run for epoch, run in self._newest.get(peer, {}).items() if epoch != besides]
        return max(others, key=lambda run: run[1])[2] if others else None


UNKNOWN_PLACE = "?"


Visit = TypeVar("Visit", bound=Hashable)


class Doors(Generic[Visit]):
    """Inbound connections by place: half of all for one, be it a relay with all that is behind it.

        knock --> pending -- enter: it has proved who it is --> inside -- leave
                     |
                     +-- leave: it failed, was too slow, or is the oldest when all places to wait in are taken

    The oldest that is pending gives way, and not the newest that knocks: who opens connections and says nothing, as
    Slowloris does, then loses its own. `_places` counts pending and inside together, by crowd; zeros are removed.
    """

    def __init__(self, max_inside: int = MAX_INBOUND) -> None:
        self._max_inside = max_inside
        self._pending: OrderedDict[Visit, str] = OrderedDict()
        self._inside: dict[Visit, str] = {}
        self._places: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """How many have not proved who they are."""
        return len(self._pending)

    @property
    def inside(self) -> int:
        return len(self._inside)

    def knock(self, visit: Visit, address: str) -> tuple[bool, Visit | None]:
        """Whether it may come in, and who has to go for it: the oldest that still has not proved who it is."""
        place = place_of(address)
        crowd = crowd_of(place)
        waiting = sum(place == other for other in self._pending.values())
        if (
            len(self._inside) >= self._max_inside
            or waiting >= MAX_PENDING_PER_ADDRESS
            or self._places[crowd] >= MAX_CONNECTIONS_PER_ADDRESS
        ):
            return False, None
        oldest = next(iter(self._pending)) if len(self._pending) >= MAX_PENDING else None
        if oldest is not None:
            self.leave(oldest)
        self._pending[visit] = place
        self._places[crowd] += 1
        return True, oldest

    def enter(self, visit: Visit) -> None:
        """It has proved who it is."""
        if (place := self._pending.pop(visit, None)) is not None:
            self._inside[visit] = place

    def leave(self, visit: Visit) -> None:
        """It is gone; a second time nothing happens."""
        place = self._pending.pop(visit, None) or self._inside.pop(visit, None)
        if place is not None:
            crowd = crowd_of(place)
            self._places[crowd] -= 1
            if not self._places[crowd]:
                del self._places[crowd]


class TrafficLedger:
    """Bytes by peer; the peers longest without traffic fall out. Safe from any thread.

    Two counts of the same bytes: by peer since the start, for people; by (peer, blob) since somebody last asked, for
    the book of what was sent. The second is emptied by being read, so each byte enters the book once.
    """

    def __init__(self, limit: int = MAX_TRAFFIC_PEERS) -> None:
        self._limit = limit
        self._rows: OrderedDict[PeerId, PeerTraffic] = OrderedDict()
        self._sent: dict[tuple[PeerId, Digest | None], int] = {}
        self._lock = threading.Lock()

    def add(self, peer: PeerId, *, bytes_in: int = 0, bytes_out: int = 0, blob: Digest | None = None) -> None:
        """Count bytes of payloads and announcements; `blob`: which one went out."""
        with self._lock:
            if bytes_out:
                key = (peer, blob)
                if key not in self._sent and len(self._sent) >= MAX_SENT:
                    key = (PeerId(""), None)
                self._sent[key] = self._sent.get(key, 0) + bytes_out
            row = self._rows.pop(peer, PeerTraffic())
            self._rows[peer] = PeerTraffic(row.bytes_in + bytes_in, row.bytes_out + bytes_out)
            if len(self._rows) > self._limit:
                self._rows.popitem(last=False)

    def sent(self) -> dict[tuple[PeerId, Digest | None], int]:
        """What went out since this was last asked."""
        with self._lock:
            sent, self._sent = self._sent, {}
            return sent

    def snapshot(self) -> dict[PeerId, PeerTraffic]:
        with self._lock:
            return dict(self._rows)


class TransportEvents:
    """A bounded queue from any thread to one reader on the asyncio loop; overflow drops `Heard` first, counted."""

    def __init__(self, limit: int = MAX_TRANSPORT_EVENTS) -> None:
        self.dropped = 0
        self._limit = limit
        self._waiting: deque[TransportEvent] = deque()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._closed = False
        self._roused = False

    def put(self, event: TransportEvent) -> None:
        """Never blocks. Once closed, nothing more is taken."""
        with self._lock:
            if self._closed:
                return
            if len(self._waiting) >= self._limit:
                self.dropped += 1
                if isinstance(event, Heard | Found) or not self._make_room():
                    return
            self._waiting.append(event)
        self._rouse()

    def close(self) -> None:
        """What is waiting is still read, then the reader ends."""
        with self._lock:
            self._closed = True
        self._rouse()

    async def read(self) -> AsyncIterator[TransportEvent]:
        """Everything in order, until closed. One reader at a time."""
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        while True:
            with self._lock:
                self._wake.clear()
                self._roused = False
            while (event := self._next()) is not None:
                yield event
            if self._closed and not self._waiting:
                return
            await self._wake.wait()

    def _next(self) -> TransportEvent | None:
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
