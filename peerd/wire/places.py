"""Whose address it is: what is counted together, be it that somebody comes from there or is said to be there."""

from __future__ import annotations

import ipaddress

IPV6_PREFIX = 64  # bits of an IPv6 address that stand for one place: who has one address there has them all


def place_of(address: str) -> str:
    """Whose connections are counted together: one IPv4 address, or one IPv6 network as it is given to a customer."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, IPV6_PREFIX), strict=False))
