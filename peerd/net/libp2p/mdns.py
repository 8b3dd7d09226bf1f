"""Finding peers of the same network on the local one by mDNS. A find is a rumour: it is told, never dialled here.

py-libp2p's own switch dials whatever answers; so its parts are used without its host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import trio
from libp2p.discovery.mdns import mdns
from libp2p.discovery.mdns.listener import PeerListener
from libp2p.peer.id import ID
from zeroconf import ServiceBrowser, ServiceListener

from p2pfinetune.names import Digest, PeerId
from peerd.net.libp2p.guard import Guard
from peerd.net.transport import Found
from peerd.wire.addresses import Address, dialable

ALL_SERVICES = "_services._dns-sd._udp.local."  # RFC 6763, section 9
_OF_PEERS = re.compile(r"_p2p-[0-9a-f]{8}\._udp\.local\.")


def service_of(network: Digest) -> str:
    """DNS-SD allows 15 characters, so that networks may share a name by accident; the greeting tells them apart."""
    return f"_p2p-{network[:8]}._udp.local."


async def announce_and_listen(
    me: PeerId,
    network: Digest,
    addresses: Sequence[Address],
    tell: Callable[[Found], None],
    guard: Guard,
    met: Callable[[Iterable[str]], None] = lambda _: None,
) -> None:
    """Until cancelled. Where the machine has no multicast, there is nobody to find, and that is all.

    `met` is told when peers of another network are there, by the names of the services that are offered.
    """
    rumours = _Rumours(me, tell, guard)
    spoken = [address for address in addresses if not address.host.startswith("127.") and address.host != "::1"]
    discovery: Any = None
    try:
        discovery = await trio.to_thread.run_sync(_open, rumours, service_of(network), spoken or list(addresses))
        await trio.to_thread.run_sync(discovery.broadcaster.register)
        others = _Others(service_of(network), met, guard)
        await trio.to_thread.run_sync(ServiceBrowser, discovery.zeroconf, ALL_SERVICES, None, others)
        await trio.sleep_forever()
    except OSError:
        return
    finally:
        if discovery is not None:
            with trio.CancelScope(shield=True), trio.move_on_after(2):
                await trio.to_thread.run_sync(_close, discovery)


class _Rumours:
    """Stands for swarm and peer store where the listener of py-libp2p expects them; called in zeroconf's thread."""

    def __init__(self, me: PeerId, tell: Callable[[Found], None], guard: Guard) -> None:
        self._me, self._tell, self.guard = me, tell, guard
        self.peerstore = self

    def get_peer_id(self) -> ID:
        """Whom to announce."""
        return ID.from_string(self._me)

    def add_addrs(self, name: ID, addresses: Iterable[Any], _ttl: int) -> None:
        peer = PeerId(str(name))
        found = dialable((str(address) for address in addresses), peer)
        if found and peer != self._me:
            self._tell(Found(peer, tuple(map(str, found)), "mdns"))

    def clear_addrs(self, _name: ID) -> None:
        """Nothing is kept here."""


class _Listener(PeerListener):  # type: ignore[misc]  # libp2p is untyped here
    """Stock, an answer that raises ends zeroconf's thread, and nobody is found any more."""

    def add_service(self, *news: Any) -> None:
        self.peerstore.guard.call("rumour", super().add_service, *news)

    def update_service(self, *news: Any) -> None:
        self.peerstore.guard.call("rumour", super().update_service, *news)

    def remove_service(self, *news: Any) -> None:
        self.peerstore.guard.call("rumour", super().remove_service, *news)


class _Others(ServiceListener):
    """Hears which kinds of service the local network has; called in zeroconf's thread."""

    def __init__(self, own: str, met: Callable[[Iterable[str]], None], guard: Guard) -> None:
        self._own, self._met, self._guard = own, met, guard

    def add_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        self._guard.call("rumour", self._heard, name)

    def update_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        """Said again."""

    def remove_service(self, _zeroconf: Any, _kind: str, name: str) -> None:
        """Gone."""

    def _heard(self, name: str) -> None:
        if name != self._own and _OF_PEERS.fullmatch(name):
            self._met(("lan",))


def _open(rumours: _Rumours, service: str, addresses: Sequence[Address]) -> Any:
    mdns.PeerListener = _Listener
    return mdns.MDNSDiscovery(
        rumours,
        port=addresses[0].port if addresses else 0,
        listen_addrs=[address.transport for address in addresses],
        service_type=service,
        retry_attempts=1,
    )


def _close(discovery: Any) -> None:
    discovery.broadcaster.unregister()
    discovery.listener.stop()
    discovery.zeroconf.close()
