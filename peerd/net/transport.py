"""The narrow port behind which a network lives. Two back ends: `peerd.testing.network` (a verified fake) and `libp2p`.

Everything here is called on the daemon's asyncio loop. What the network or a peer does wrong comes back as a value: a
`Failed` for whoever asked, an event for everybody. One contract suite runs against both back ends, so a test with the
fake says something about the real one.

How it is cut, and why so:

- *Peers, not connections.* A caller names a peer; which connection, stream or address serves it is the back end's own
  affair. `Connected` means: of our network, by its own proof, and a connection is up.
- *A fetch is one call* and not a stream of chunks, since resuming, changing the holder and finding out who lied need
  the bytes that are held, and those are on the shelf (`peerd.wire.shelf`), below the port.
- *Events are bounded.* They wait in a queue of fixed length; a flood drops gossip first, which is said again, and
  comings and goings last (`limits.TransportEvents`). The core looks at the truth once a second all the same.
- *A back end may die.* `Down` is its last event; whoever owns it makes another (`peerd.daemon.link`). So no back end
  has to mend itself, and one that was wrong about its own state cannot stay so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal, Protocol

import msgspec

from p2pfinetune.names import Digest, PeerId
from peerd.net.exchanges import Answerer, Exchange
from peerd.wire.addresses import NO_RELAYS, Address
from peerd.wire.envelope import Envelope
from peerd.wire.messages import Register, Sample
from peerd.wire.traits import Traits

FailureReason = Literal[
    "unreachable",  # no address answers, or the connection broke
    "absent",  # the peer answers and does not hold the blob
    "busy",  # the peer serves enough others already, or has no answer now
    "timeout",  # the byte or time budget ran out
    "corrupt",  # bytes that do not hash to the digest
    "oversize",  # the peer says another size than was announced
    "refused",  # a protocol it does not speak, or no peerd at all
    "no-such-name",  # a host name that does not resolve
    "no-route",  # no way there from this machine
    "connection-refused",  # nothing listens on that port
    "relayed",  # no address but behind a relay, which cannot be dialled yet
    "other-identity",  # somebody answers there under another peer id: `Failed.found`
    "other-key",  # another group key, or one on one side alone
    "other-network",  # another base model, group, rank: nothing to mix
]


Wrong = tuple[tuple[PeerId, FailureReason], ...]
"""Holders that gave all of the bytes, and the wrong ones (`corrupt`), or that say another size (`oversize`)."""


class Connected(msgspec.Struct, frozen=True):
    """A connection to a peer is up."""

    peer: PeerId
    address: str


class Disconnected(msgspec.Struct, frozen=True):
    """The last connection to a peer is gone."""

    peer: PeerId


class Heard(msgspec.Struct, frozen=True):
    """A gossip message arrived; what is in it was verified, or is refused: see `Envelope`."""

    envelope: Envelope
    via: PeerId


class Found(msgspec.Struct, frozen=True):
    """The network itself discovered a peer (mDNS)."""

    peer: PeerId
    addresses: tuple[str, ...]
    how: str


class Moved(msgspec.Struct, frozen=True):
    """The own machine got or lost an address: where others can reach it now."""

    addresses: tuple[str, ...]


class Down(msgspec.Struct, frozen=True):
    """The back end died; the shell starts a new one."""

    reason: str
    of_a_stranger: bool = False
    """Whether it died of something that was said to it: then it comes back at once, so that nobody can keep it away."""


TransportEvent = Connected | Disconnected | Heard | Found | Moved | Down


class Fetched(msgspec.Struct, frozen=True):
    """The blob is in the store, complete and verified."""

    digest: Digest
    source: PeerId
    bytes_in: int
    wrong: Wrong = ()


class Failed(msgspec.Struct, frozen=True):
    """It did not work, and why."""

    reason: FailureReason
    detail: str = ""
    bytes_in: int = 0
    wrong: Wrong = ()
    address: str = ""
    """Of a dial: the address that this is about."""
    found: PeerId | None = None
    """Of a dial: who answers there instead."""
    differs: tuple[str, ...] = ()
    """Of a peer that cannot be joined: in what it differs, as far as that is known. Kinds of `peerd.daemon.misfits`."""


RELAYED = Failed("relayed", f"is behind a relay, which {NO_RELAYS}")


class Met(msgspec.Struct, frozen=True):
    """Somebody came or was dialled that cannot be joined."""

    times: int
    seconds: float
    """Since the last time."""


class PeerTraffic(msgspec.Struct, frozen=True):
    """Bytes exchanged with one peer since the transport started, payloads and announcements."""

    bytes_in: int = 0
    bytes_out: int = 0


class Transport(Protocol):
    """A started network node of one identity."""

    traits: Traits
    """What is told to whoever is connected and is of another network; set before the start."""

    @property
    def me(self) -> PeerId:
        """My own id."""
        ...

    @property
    def listening(self) -> tuple[str, ...]:
        """Where it really listens, with the ports that were got: what the next back end listens on if this one dies."""
        ...

    def answer(self, exchange: Exchange, answerer: Answerer) -> None:
        """Answer an exchange from the start on: to be called before it. `answerer` is called on the asyncio loop."""
        ...

    async def start(self) -> tuple[str, ...]:
        """Listen; returns the addresses others can paste, `/p2p/<id>` included. Raises TransportError (ours)."""
        ...

    async def stop(self) -> None:
        """Close every connection and stop; within 5 seconds, whatever peers do."""
        ...

    def events(self) -> AsyncIterator[TransportEvent]:
        """Everything that happens, in order, until stopped. Bounded inside: a flood drops `Heard`, counted, first."""
        ...

    def connected(self) -> frozenset[PeerId]:
        """Peers with a live connection."""
        ...

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        """Bytes by peer; bounded."""
        ...

    def sent(self) -> dict[tuple[PeerId, Digest | None], int]:
        """Bytes that went out since this was last asked, by peer and blob (None: announcements, questions and answers).

        Adds up to what `traffic` counts as out; bounded, the rest under an empty peer.
        """
        ...

    def counts(self) -> dict[str, int]:
        """What strangers tried that came to nothing, by kind, since the start."""
        ...

    def met(self) -> dict[str, Met]:
        """Who was met and could not be joined, by kind: the words of `peerd.daemon.misfits` and no others."""
        ...

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Connected | Failed:
        """Dial every address in turn, within 15 seconds in all."""
        ...

    async def disconnect(self, peer: PeerId) -> None:
        """Close the connections to a peer."""
        ...

    async def publish(self, message: bytes) -> Failed | None:
        """Gossip to whoever listens. Having no peers is no failure."""
        ...

    async def ask(self, peer: PeerId, exchange: Exchange, request: bytes) -> bytes | Failed:
        """One question to a connected peer, and its answer: bytes of a stranger, no more than the exchange allows.

        Nobody is dialled for it. Reasons: `unreachable` (not connected, or it breaks off), `refused` (it does not
        speak the protocol), `busy` (it ends without an answer), `oversize`, `timeout`.
        """
        ...

    async def register(self, node: Address, message: Register) -> Sample | Failed:
        """Tell a rendezvous node of this peer and hear of others, over a connection that is closed again.

        `message.why` is filled in. It is no neighbour: nothing is told of it.
        """
        ...

    async def fetch(
        self, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float
    ) -> Fetched | Failed:
        """Bring a blob into the shelf from the first holder that gives it, going on where the last attempt stopped.

        `size` is what was announced; not a byte more is read. One fetch at a time from each peer.
        """
        ...
