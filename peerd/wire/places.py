"""Whose address it is: what is counted together, be it that somebody comes from there or is said to be there.

Peer ids cost nothing, so whatever a stranger can use up is bounded by *place*: an IPv4 address, or the IPv6 network
that a customer is given. A place is dear to come by, and honest peers seldom share one. Behind a relay (libp2p circuit
relay v2) both fail: many honest peers come from the one address of the relay, and new ids behind it cost its users
nothing. What a relayed peer costs is a trade-off between the two:

- *Honest peers behind one relay must not crowd each other out.* So a relay stands for `CIRCUIT_PLACES` places, not one:
  each peer behind it belongs to one of them by its id. Rates and rooms to wait in are those of four addresses.
- *A crowd behind one relay must not win more than its share.* So it is four places at most, whatever ids it makes up;
  the name of the relay is no part of a place, since that costs nothing either: a place begins with the address that
  our packets go to or come from. Four is what a tenant with four addresses has anyway. Where a half is kept from every
  single place (turns, doors, who may wait), it is kept from a relay with all that is behind it: see `crowd_of`.

So peers behind a relay that a hostile crowd uses, too, may lose to that crowd, among themselves; nobody who is reached
directly does. Knocks at a relayed address are counted at the relay's own place, since that is who is knocked at.
"""

from __future__ import annotations

import hashlib
import ipaddress

IPV6_PREFIX = 64  # bits of an IPv6 address that stand for one place: who has one address there has them all
CIRCUIT_PLACES = 4  # that all peers behind one relay are spread over; more would be more for a crowd behind it
CIRCUIT = "/p2p-circuit"
"""What stands in an address, and in a place, behind the relay (multiaddr protocol 290)."""


def place_of(address: str) -> str:
    """Whose connections are counted together: one IPv4 address, or one IPv6 network as it is given to a customer.

    What is a place already stays as it is.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))


def place_behind(relay: str, peer: str) -> str:
    """The place of a peer that comes through a relay at that IP address: one of CIRCUIT_PLACES of the relay's own."""
    return f"{place_of(relay)}{circuit_of(peer)}"


def circuit_of(peer: str) -> str:
    """Which of the places behind a relay is that of a peer, `/p2p-circuit/0` to `/p2p-circuit/3`."""
    return f"{CIRCUIT}/{hashlib.blake2b(peer.encode(), digest_size=1).digest()[0] % CIRCUIT_PLACES}"


def crowd_of(place: str) -> str:
    """The place of the relay with all that is behind it; a place that is reached directly is its own crowd."""
    return place.partition(CIRCUIT)[0]


def is_relayed(address: str) -> bool:
    """Whether an address leads through a relay, however sound the rest of it is."""
    return f"{CIRCUIT}/" in f"{address}/"
