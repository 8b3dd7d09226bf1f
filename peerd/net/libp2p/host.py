"""A libp2p host with every limit set: made, started, and able to try every address of a peer.

One way to make a host, for daemons and rendezvous nodes, so that no limit is forgotten in one of them. Stock settings
are those of a library that has to suit everybody: plaintext is on offer, the swarm dials whom anybody tells it of,
retries by itself, and listens with SO_REUSEPORT beside whatever has the port. Each is switched off here, with its
reason beside it. What needs a change of the library's own code is in `patches`, with what would let us delete it.

Where a daemon can be reached is worked out from what the machine has now and what the host really listens on, since a
port 0 is given by the system and a wildcard address is no address for others.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.peer.id import ID
from libp2p.rcmgr import ResourceLimits, new_resource_manager
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from multiaddr import Multiaddr

from p2pfinetune.names import PeerId, Refusal
from peerd.errors import TransportError, UsageError
from peerd.net import limits
from peerd.net.libp2p import patches
from peerd.net.libp2p.alive import WatchedYamux
from peerd.net.libp2p.guard import Guard
from peerd.net.libp2p.identity import Ed25519Noise
from peerd.net.libp2p.interfaces import Interfaces, SystemInterfaces
from peerd.wire.addresses import Address, expand_wildcards, parse_address
from peerd.wire.keys import PeerKey

DIAL_SECONDS = 8.0  # for one address: TCP, Noise and yamux over a slow line
CLOSE_SECONDS = 3.0  # for saying goodbye to everybody
LISTEN_HINT = "is the address in use, or not of this machine? See: peerd start --help"


def make_host(key: PeerKey, *, max_connections: int, max_inbound: int, psk: str | None, guard: Guard) -> Any:
    """Noise and yamux over TCP and nothing else: stock, plaintext is on offer too, and a peer may choose it."""
    patches.install()
    pair = create_new_key_pair(key.seed)
    host = new_host(
        key_pair=pair,
        sec_opt={NOISE: Ed25519Noise(pair, guard.count)},
        muxer_opt={YAMUX: WatchedYamux},
        psk=psk,
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=max_connections,
            high_watermark=max_connections,
            low_watermark=0,
            min_connections=0,
            max_connections_per_peer=2,  # both may dial at the same moment
            inbound_upgrade_timeout=limits.UPGRADE_SECONDS,
            inbound_stream_protocol_negotiation_timeout=limits.NEGOTIATE_SECONDS,
            dial_timeout=DIAL_SECONDS,
        ),
        resource_manager=new_resource_manager(
            limits=ResourceLimits(max_connections=4 * max_connections, max_streams=limits.MAX_STREAMS),
            connection_limits=ConnectionLimits(max_established_per_peer=4, max_established_total=max_connections),
        ),
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)  # whoever asked decides when to ask again
    host.get_network().auto_connector.maybe_connect = _dial_nobody
    patches.guard_connections(host, max_inbound=max_inbound, guard=guard)
    patches.guard_streams(host, guard)
    return host


async def _dial_nobody() -> None:
    """Stock, the swarm dials whatever address anybody told it of, until half its slots are taken."""


@asynccontextmanager
async def running(
    host: Any, listen: Sequence[Address], interfaces: Interfaces | None = None
) -> AsyncIterator[tuple[str, ...]]:
    """Listening; yields the addresses that others can paste. Raises TransportError when it cannot listen."""
    for address in listen:
        check_free(address)
    async with host.run([Multiaddr(address.transport) for address in listen]):
        try:
            addresses = reachable_at(host, interfaces or SystemInterfaces())
            if len(host.get_network().listeners) < len(listen) or not addresses:  # it does not raise
                raise TransportError("libp2p could not listen on every address", LISTEN_HINT)
            yield addresses
        finally:
            with trio.CancelScope(shield=True):
                await close(host)  # leaving run() alone leaves the sockets of live connections open


async def close(host: Any) -> None:
    """Say goodbye to everybody, without waiting for who does not read. A second time it does nothing."""
    for connection in host.get_network().get_connections():
        if isinstance(connection.muxed_conn, WatchedYamux):
            connection.muxed_conn.hurry()
    with trio.move_on_after(CLOSE_SECONDS):
        await host.close()


def parse_listen(texts: Iterable[str]) -> tuple[Address, ...]:
    """The addresses to listen on. Raises UsageError naming the one that is wrong."""
    found = []
    for text in texts:
        address = parse_address(text)
        if isinstance(address, Refusal) or address.kind not in {"ip4", "ip6"} or address.relay is not None:
            why = address.detail if isinstance(address, Refusal) else "only an IP address of its own can be listened on"
            raise UsageError(f"cannot listen on {text!r}: {why}", "for instance /ip4/0.0.0.0/tcp/4001")
        found.append(address)
    if not found:
        raise UsageError("there is no address to listen on", "for instance --listen /ip4/0.0.0.0/tcp/4001")
    return tuple(found)


def check_free(address: Address) -> None:
    """Raises TransportError if the port is taken: libp2p's SO_REUSEPORT would share it without a word."""
    family = socket.AF_INET if address.kind == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else the last run's closed connections count
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            raise TransportError(f"cannot listen on {address}: {error.strerror}", _instead(address, error)) from error


def _instead(address: Address, error: OSError) -> str:
    """What to type if an address cannot be listened on."""
    everywhere = f"/{address.kind}/{'0.0.0.0' if address.kind == 'ip4' else '::'}/tcp"  # noqa: S104  # what to type
    match error.errno:
        case errno.EADDRINUSE:
            other = f"/{address.kind}/{address.host}/tcp"
            return (
                f"another program has that port; choose another: --listen {other}/PORT, or {other}/0 for any free one"
            )
        case errno.EADDRNOTAVAIL:
            return f"this machine has no such address now; listen on all it has: --listen {everywhere}/{address.port}"
        case errno.EACCES:
            return f"ports below 1024 are for root; choose another, for instance --listen {everywhere}/4001"
    return f"for instance --listen {everywhere}/4001"


def reachable_at(host: Any, interfaces: Interfaces) -> tuple[str, ...]:
    """Where it listens, of what this machine has now, as others can paste it."""
    me = PeerId(str(host.get_id()))
    bound = [parse_address(str(address)) for address in host.get_transport_addrs()]
    addresses = [address for address in bound if isinstance(address, Address) and address.port]
    present = expand_wildcards(addresses, interfaces.present())
    return tuple(
        str(address.of(me))
        for address in present
        if address.host in interfaces.present() or interfaces.has(address.host)
    )


def local_host(connection: Any) -> str | None:
    """The own IP address that a connection is made from; None if the library hides it."""
    layer = connection
    for name in ("muxed_conn", "secured_conn", "conn", "read_writer", "read_write_closer"):
        layer = getattr(layer, name, None)
    layer = getattr(layer, "_conn", layer)  # beneath the group key
    for name in ("stream", "stream", "socket"):
        layer = getattr(layer, name, None)
    try:
        return str(layer.getsockname()[0]) if layer is not None else None
    except OSError:
        return None


def bound(host: Any, listen: Sequence[Address]) -> tuple[str, ...]:
    """As asked for, with the port that was got in place of 0: where the next node of this daemon listens."""
    found = [parse_address(str(address)) for address in host.get_transport_addrs()]
    free = [address for address in found if isinstance(address, Address)]
    told = []
    for wanted in listen:
        got = next((one for one in free if (one.kind, one.host) == (wanted.kind, wanted.host)), wanted)
        if not wanted.port and got in free:
            free.remove(got)
        told.append((wanted if wanted.port else got).transport)
    return tuple(told)


def is_connected(host: Any, peer: PeerId) -> bool:
    """Whether a live connection is there."""
    return any(not connection.is_closed for connection in host.get_network().get_connections(ID.from_string(peer)))
