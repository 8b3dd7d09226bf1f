"""Multiaddrs: an IP address or DNS name, TCP, and perhaps the peer id; and the same of a relay, with a peer behind it.

Relayed addresses (libp2p circuit relay v2) are understood, kept and shown; none is dialled yet: `dialable`.

Pure text; it resolves nothing. What strangers announce is filtered by it before anything dials.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable

import msgspec

from p2pfinetune.names import PeerId, Refusal
from peerd.errors import UsageError
from peerd.wire.keys import public_key_of
from peerd.wire.messages import MAX_ADDRESS, MAX_ADDRESSES
from peerd.wire.places import CIRCUIT

NO_RELAYS = "this version cannot dial"
DIRECT = "name an address of the machine itself; there, `peerd id` prints all it has"
EXAMPLE = "/ip4/192.168.1.20/tcp/4001/p2p/12D3KooW..."
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 1123
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_MAX_HOST_NAME = 253  # RFC 1035
_MAX_PORT = 65_535
NAMES = frozenset({"dns", "dns4", "dns6"})
"""Kinds of address that have to be resolved. `/dnsaddr` is none of ours: where it leads is written by others."""


LOCAL_DOMAINS = (".local", ".lan", ".home", ".internal", ".localhost", ".home.arpa", ".test", ".invalid")


class Address(msgspec.Struct, frozen=True):
    """`/ip4/1.2.3.4/tcp/4001/p2p/12D3KooW...` in its parts."""

    kind: str
    """ip4, ip6, dns, dns4 or dns6."""
    host: str
    port: int
    peer: PeerId | None = None
    relay: PeerId | None = None
    """Who listens at host and port if that is not the peer itself; it lets those through whom it knows."""

    def __str__(self) -> str:
        return f"{self.transport}/p2p/{self.peer}" if self.peer else self.transport

    @property
    def transport(self) -> str:
        """Without the peer id."""
        direct = f"/{self.kind}/{self.host}/tcp/{self.port}"
        return f"{direct}/p2p/{self.relay}{CIRCUIT}" if self.relay else direct

    def of(self, peer: PeerId) -> Address:
        """With that peer id."""
        return msgspec.structs.replace(self, peer=peer)


def parse_address(text: str) -> Address | Refusal:
    """The parts of a multiaddr. The refusal's reason is `bad-address`, its detail names the part that is wrong."""
    if len(text) > MAX_ADDRESS or not text.isascii():
        return Refusal("bad-address", f"longer than {MAX_ADDRESS} characters or not plain ASCII")
    hops = text.removesuffix("/").split(f"{CIRCUIT}/" if f"{CIRCUIT}/" in text else CIRCUIT)
    parts = hops[0].split("/")
    behind = hops[1].split("/") if len(hops) == 2 and hops[1] else []
    if len(hops) > 2 or not _has_form(parts, behind, is_relayed=len(hops) == 2):
        return Refusal("bad-address", "it should look like " + EXAMPLE)
    kind, host, port = parts[1], parts[2], parts[4]
    if not _is_host(kind, host):
        return Refusal("bad-address", f"{host!r} is no /{kind}/ address")
    if not port.isdecimal() or len(port) > 5 or int(port) > _MAX_PORT:
        return Refusal("bad-address", f"{port!r} is no TCP port")
    ids = [PeerId(one) for one in (*parts[6:], *behind[1:])]
    for one in ids:
        if public_key_of(one) is None:
            return Refusal("bad-address", f"{one!r} is no peer id")
    if len(set(ids)) < len(ids):
        return Refusal("bad-address", "a peer is no relay of its own")
    peer, relay = (ids[0] if ids else None, None) if len(hops) == 1 else (ids[1] if len(ids) > 1 else None, ids[0])
    return Address(kind, host, int(port), peer, relay)


def _has_form(parts: list[str], behind: list[str], *, is_relayed: bool) -> bool:
    """`parts` are of the machine itself, with its id if it is a relay; `behind` is `p2p` and an id, or nothing."""
    is_machine = len(parts) in {5, 7} and parts[0] == "" and parts[3] == "tcp" and parts[5:6] in ([], ["p2p"])
    if not is_relayed:
        return is_machine
    return is_machine and len(parts) == 7 and (not behind or (len(behind) == 2 and behind[0] == "p2p"))


def dialable(addresses: Iterable[str], peer: PeerId, given: Collection[Address] = ()) -> tuple[Address, ...]:
    """Those of `usable` that can be dialled: not through a relay, which nobody here speaks to yet."""
    return tuple(address for address in usable(addresses, peer, given) if address.relay is None)


def usable(addresses: Iterable[str], peer: PeerId, given: Collection[Address] = ()) -> tuple[Address, ...]:
    """Those of what a stranger announced for `peer` that may lead to it: well-formed, no wildcard, nobody else's.

    Host names only if a person gave them (`given`): else a stranger could have this machine ask its name servers
    for whatever it likes, and tell by the questions who listens. None if `peer` is no peer id.
    """
    found: dict[Address, None] = {}
    if public_key_of(peer) is None:  # a bootstrap node may name anything
        return ()
    for text in addresses:
        address = parse_address(text)
        if isinstance(address, Refusal) or address.port == 0 or _is_wildcard(address):
            continue
        if address.peer in {None, peer} and (address.kind not in NAMES or address.of(peer) in given):
            found[address.of(peer)] = None
    return tuple(found)[:MAX_ADDRESSES]


def for_others(addresses: Iterable[str]) -> list[str]:
    """Those that somebody on another machine can dial, as they are: no loopback, no wildcard, no port 0."""
    known = [(text, parse_address(text)) for text in addresses]
    return [text for text, one in known if isinstance(one, Address) and is_for_others(one)]


def is_for_others(address: Address) -> bool:
    """Whether another machine may reach it; whether it does, nobody knows who has not tried."""
    if address.port == 0:
        return False
    if address.kind in NAMES:
        return address.host.rstrip(".").lower() != "localhost"
    ip = ipaddress.ip_address(address.host)
    return not (ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast)


def is_public(address: Address) -> bool:
    """Whether it leads to the internet. A name does if it has a domain that is not one of local networks."""
    if address.kind in NAMES:
        name = address.host.rstrip(".").lower()
        return "." in name and not name.endswith(LOCAL_DOMAINS)
    return ipaddress.ip_address(address.host).is_global


def expand_wildcards(addresses: Iterable[Address], interfaces: Iterable[str]) -> tuple[Address, ...]:
    """0.0.0.0 and :: replaced by the addresses of this machine's interfaces, loopback last."""
    found: dict[Address, None] = {}
    here = sorted((ipaddress.ip_address(text) for text in interfaces), key=lambda ip: (ip.is_loopback, ip.version))
    for address in addresses:
        if not _is_wildcard(address):
            found[address] = None
            continue
        version = 4 if address.kind == "ip4" else 6
        for ip in here:
            if ip.version == version and not ip.is_link_local:  # link-local needs a zone that means nothing elsewhere
                found[msgspec.structs.replace(address, host=str(ip))] = None
    return tuple(found)


def _is_host(kind: str, host: str) -> bool:
    if kind in NAMES:
        return len(host) <= _MAX_HOST_NAME and _HOST_NAME.fullmatch(host) is not None
    try:
        return {"ip4": 4, "ip6": 6}.get(kind) == ipaddress.ip_address(host).version and "%" not in host
    except ValueError:
        return False


def _is_wildcard(address: Address) -> bool:
    return address.kind in {"ip4", "ip6"} and ipaddress.ip_address(address.host).is_unspecified


def given_addresses(texts: Iterable[str], option: str) -> tuple[Address, ...]:
    """What a person typed behind `option`, each with a peer id. Raises UsageError naming the one that is wrong."""
    found = []
    for text in texts:
        address = parse_address(text.strip())
        if isinstance(address, Refusal):
            raise UsageError(f"{option} {text!r}: {address.detail}", f"the right form is {EXAMPLE}")
        if address.peer is None or address.port == 0:
            missing = "the port to dial" if address.port == 0 else "the peer's id at the end"
            raise UsageError(f"{option} {text!r}: it lacks {missing}", f"the right form is {EXAMPLE}")
        if address.relay is not None:
            raise UsageError(f"{option} {text!r}: it leads through a relay, which {NO_RELAYS}", DIRECT)
        found.append(address)
    return tuple(found)


def addresses_of(texts: tuple[str, ...]) -> tuple[Address, ...]:
    """Multiaddrs of the configuration; `peerd start` has looked at them already. Raises UsageError."""
    found = []
    for text in texts:
        address = parse_address(text)
        if not isinstance(address, Address):
            raise UsageError(
                f"{text!r} is no address: {address.detail}", "for example: /ip4/192.168.1.20/tcp/4001/p2p/ID"
            )
        found.append(address)
    return tuple(found)
