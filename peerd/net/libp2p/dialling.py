"""Dialling a peer at each address that it may have; if nobody is reached, why, each cause with a reason of its own.

The library tells causes apart in chains of exceptions at most, and of a service that takes a connection and then speaks
otherwise not at all. So what is heard first on a connection is kept: a peerd without a group key says the name of
multistream-select in the clear, one with a key says random bytes (the nonce of 24 bytes of libp2p's private networks,
specs/pnet), another service its own greeting.

    TCP does not come up ------> connection-refused, timeout, no-route: by the system's error number
    TCP comes up, silence -----> timeout (it hangs), unreachable (it closes)
    the name of multistream ---> other-key, if we have a key and it has none; else the handshake broke off
    something readable --------> refused: it is no peerd
    something else ------------> other-key
    Noise proves another id ---> other-identity, with that id: the one word of a stranger that is believed

Of several addresses that failed the most telling reason stands for all (`_TELLING`), so that a person who mistyped an
id is not told of a timeout at another address.

Names are resolved here, by the system (its files, its multicast DNS), again at each dial and in a thread that is not
waited for: the library asks name servers by itself, and knows neither /etc/hosts nor `.local`.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import trio
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from multiaddr import Multiaddr

from p2pfinetune.names import PeerId
from peerd.net import limits
from peerd.net.libp2p import host as hosts
from peerd.net.libp2p.guard import contained
from peerd.net.transport import Failed, FailureReason
from peerd.wire.addresses import Address
from peerd.wire.keys import public_key_of

RESOLVE_SECONDS = 5.0  # for one name
LISTEN_SECONDS = 1.0  # to what somebody says first who broke a connection off
MAX_RESOLVED = 4  # addresses of one name that are tried
MAX_RESOLVING = 4  # threads in which a name server may hang
MAX_CHAIN = 64  # exceptions of one failure that are looked at
REST_SECONDS = 0.2  # for what has arrived already of one that came in and failed
NONCE_BYTES = 24  # with which one begins who has a group key
MAX_HEARD = 48  # bytes of what is said first
IN_THE_CLEAR = b"\x13/multistream/1.0.0\n"
_OF_OTHERS = (b"\x16\x03", b"\x03\x00", b"\x00")
"""Of TLS, of remote desktops and of Windows shares, for which ports are looked through."""
_FOUND_ID = re.compile(r"remote_peer_id_from_pubkey=(\w{1,128})")  # of PeerIDMismatchesPubkey, 0.8.1
_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_TELLING: tuple[FailureReason, ...] = (
    "other-identity",
    "other-key",
    "refused",
    "connection-refused",
    "timeout",
    "no-route",
    "no-such-name",
)
"""Of several addresses that failed, the one that says most stands for all."""

LookUp = Callable[..., Iterable[tuple[Any, ...]]]


class Tried(msgspec.Struct, frozen=True):
    """One address, and why nobody was reached there."""

    address: Address
    failed: Failed


class Ear:
    """What the other end of a connection says first, before it has proved who it is: as it comes, and in the clear."""

    def __init__(self, connection: Any) -> None:
        self.heard = self._clear = b""
        below = getattr(connection, "_conn", None)  # there is one beneath a group key
        self._read = (below or connection).read
        (below or connection).read = self._listening
        if below is not None:
            self._deciphered = connection.read
            connection.read = self._reading

    @property
    def is_understood(self) -> bool:
        """Whether it has the group key that this peer has, or neither has one."""
        return (self._clear or self.heard).startswith(IN_THE_CLEAR)

    async def rest(self) -> None:
        """What waits already of the first words."""
        while len(self.heard) < NONCE_BYTES and await self._listening(MAX_HEARD):
            pass

    async def _listening(self, size: int | None = None) -> bytes:
        data: bytes = await self._read(size)
        self.heard += data[: MAX_HEARD - len(self.heard)]
        return data

    async def _reading(self, size: int | None = None) -> bytes:
        data: bytes = await self._deciphered(size)
        self._clear += data[: MAX_HEARD - len(self._clear)]
        return data


def keep_what_is_heard(host: Any, met: Callable[[Iterable[str]], None]) -> None:
    """From now on, of every connection that is dialled; of those that come in and fail, `met` is told what they are."""
    network = host.get_network()
    ears: dict[ID, Ear] = {}
    network.peerd_ears = ears
    upgrade = network.upgrader.upgrade_security

    async def upgrade_security(connection: Any, is_initiator: bool, peer: ID | None = None) -> Any:
        ear = Ear(connection)
        if is_initiator:
            if peer is not None:
                ears[peer] = ear
            return await upgrade(connection, is_initiator, peer)
        found: list[Any] = []
        try:
            with contained() as held:
                found.append(await upgrade(connection, is_initiator, peer))
            if held.failure is None:
                return found[0]
            with trio.move_on_after(REST_SECONDS), contained():
                await ear.rest()
            raise held.failure
        finally:  # given up for its slowness too: whoever lacks the key waits for an answer
            if not found and not ear.is_understood:
                met(caller(ear.heard, is_keyed=getattr(network, "psk", None) is not None))

    network.upgrader.upgrade_security = upgrade_security


async def dial(
    host: Any,
    peer: PeerId,
    addresses: Iterable[Address],
    asked: Collection[Address] = (),
    look_up: LookUp | None = None,
) -> Address | Failed:
    """The first address that answered, or why none did. The caller sets the time limit of all together.

    `asked`: those that a person gave, who wants to know. 0.8.1 dials one address of a transport at most, and then
    blocks the peer for 60 seconds.
    """
    network, name = host.get_network(), ID.from_string(peer)
    tried: list[Tried] = []
    try:
        for address in addresses:
            found = await _resolved(network, address, look_up or socket.getaddrinfo)
            if isinstance(found, Failed):
                tried.append(Tried(address, found))
                continue
            for place in found:
                failed = await _dial_one(host, name, place, is_asked=address in asked)
                if failed is None:
                    return address
                tried.append(Tried(address, failed))
        return most_telling(tried, asked)
    finally:
        network.unblock_peer(name)


def most_telling(tried: Sequence[Tried], asked: Collection[Address] = ()) -> Failed:
    """What to say of all; of an address that a person gave, whatever happened at others."""
    if not tried:
        return Failed("unreachable", "no address that can be dialled")
    of_a_person = [one for one in tried if one.address in asked] or list(tried)
    last = len(_TELLING)
    best = min(
        of_a_person, key=lambda one: _TELLING.index(one.failed.reason) if one.failed.reason in _TELLING else last
    )
    return msgspec.structs.replace(best.failed, address=str(best.address))


def dialled(address: Address) -> Multiaddr | None:
    """As the library writes it; None for what only looks like an address."""
    try:
        return Multiaddr(address.transport)
    except ValueError:
        return None


async def _dial_one(host: Any, name: ID, place: Address, *, is_asked: bool) -> Failed | None:
    """None if somebody answers who proves to be that peer."""
    network, ears = host.get_network(), getattr(host.get_network(), "peerd_ears", {})
    if (target := dialled(place)) is None:
        return Failed("unreachable", "is no address that can be dialled")
    network.unblock_peer(name)
    host.get_peerstore().clear_addrs(name)
    ears.pop(name, None)
    try:
        with contained() as held, trio.fail_after(hosts.DIAL_SECONDS):
            await host.connect(PeerInfo(name, [target]))
        if held.failure is None:
            return None
        ear = ears.get(name)
        heard = ear.heard if ear is not None else None
        if ear is not None and ear.is_understood:
            heard = IN_THE_CLEAR  # under a key that both have, it was more than noise
        if heard == b"" and is_asked and not isinstance(held.failure, trio.TooSlowError):
            heard = await _first_words(place)  # a connection that is reset loses what was said on it
        is_keyed = getattr(network, "psk", None) is not None and not (ear is not None and ear.is_understood)
        return why(held.failure, place, heard, is_keyed=is_keyed)
    finally:
        ears.pop(name, None)


async def _first_words(place: Address) -> bytes:
    """What is said to one who says nothing."""
    heard = b""
    with trio.move_on_after(LISTEN_SECONDS), contained():
        async with await trio.open_tcp_stream(place.host, place.port) as stream:
            while len(heard) < MAX_HEARD and (part := await stream.receive_some(MAX_HEARD - len(heard))):
                heard += part
    return heard


async def _resolved(network: Any, address: Address, look_up: LookUp) -> list[Address] | Failed:
    """Where a name leads now; an IP address stands for itself."""
    if address.kind not in _FAMILIES:
        return [address]
    threads = vars(network).setdefault("peerd_resolvers", trio.CapacityLimiter(MAX_RESOLVING))
    ask = partial(look_up, address.host, address.port, _FAMILIES[address.kind], socket.SOCK_STREAM)
    try:
        with trio.fail_after(RESOLVE_SECONDS):
            answers = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=threads)  # type: ignore[call-arg]  # trio-typing, which libp2p brings, is older than trio
    except trio.TooSlowError:
        return Failed("no-such-name", f"the name {address.host} did not resolve within {RESOLVE_SECONDS:g} s")
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or "it is no name"
        return Failed("no-such-name", f"the name {address.host} does not resolve here ({said})")
    found: dict[Address, None] = {}
    for family, _, _, _, where in answers:
        kind = {socket.AF_INET: "ip4", socket.AF_INET6: "ip6"}.get(family)
        if (
            kind is not None and "%" not in where[0] and not (kind == "ip6" and where[3])
        ):  # zones mean nothing elsewhere
            found[Address(kind, where[0], address.port, address.peer)] = None
    return list(found)[:MAX_RESOLVED] or Failed("no-such-name", f"the name {address.host} leads to no address")


def why(error: BaseException, place: Address, heard: bytes | None, *, is_keyed: bool) -> Failed:
    """The reason of a failed dial. `heard`: None if TCP did not come up; `is_keyed`: this peer has a group key."""
    chain = list(_causes(error))
    for cause in chain:
        if not isinstance(cause, PeerIDMismatchesPubkey):
            continue  # other words of the library repeat what a stranger said, who has proved nothing
        if (told := _FOUND_ID.search(str(cause))) and public_key_of(told[1]) is not None:
            return Failed("other-identity", f"answers under another id: {told[1]}", found=PeerId(told[1]))
    if heard is not None:
        return _misheard(heard, chain, is_keyed=is_keyed)
    numbers = {cause.errno for cause in chain if isinstance(cause, OSError)}
    if errno.ECONNREFUSED in numbers:
        return Failed("connection-refused", f"refuses connections: nothing listens on port {place.port} there")
    if isinstance(error, trio.TooSlowError) or errno.ETIMEDOUT in numbers:
        return Failed(
            "timeout", f"does not answer within {hosts.DIAL_SECONDS:g} s: it is off, or a firewall is between"
        )
    if numbers & _NO_WAY:
        said = next(cause.strerror for cause in chain if isinstance(cause, OSError) and cause.errno in _NO_WAY)
        return Failed("no-route", f"cannot be reached from this machine ({said})")
    if any("require public IPv6" in str(cause) for cause in chain):
        return Failed("no-route", "cannot be reached from this machine (it has no IPv6 address)")
    return Failed("unreachable", f"cannot be dialled ({_short(chain[-1])})")


_NO_WAY = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
    errno.EAFNOSUPPORT,
    errno.EINVAL,
}


def _misheard(heard: bytes, chain: Sequence[BaseException], *, is_keyed: bool) -> Failed:
    """TCP came up, and then it went wrong."""
    if not heard:
        if any(isinstance(cause, trio.TooSlowError) for cause in chain):
            return Failed("timeout", "takes the connection and says nothing: it hangs, or is no peerd")
        return Failed("unreachable", "takes the connection and ends it without a word: it is full, or is no peerd")
    if heard.startswith(IN_THE_CLEAR) or IN_THE_CLEAR.startswith(heard):
        if is_keyed:
            return Failed("other-key", "has no group key, and this peer has one", differs=("no-key",))
        what = type(chain[-1]).__name__  # its words repeat what was said there
        return Failed("unreachable", f"breaks the handshake off ({what})")
    if _is_readable(heard):
        shown = heard[:24].split(b"\n")[0].decode("ascii", "replace").strip()
        return Failed("refused", f"is no peerd: it says {shown!r}")
    if is_keyed:
        return Failed("other-key", "has another group key than this peer, or is no peerd", differs=("key",))
    return Failed("other-key", "has a group key, and this peer has none; or it is no peerd", differs=("key",))


def caller(heard: bytes, *, is_keyed: bool) -> tuple[str, ...]:
    """What one is that came and with whom no connection came up, by its first words; empty if that tells nothing.

    Whoever has a group key begins with 24 random bytes, which some other programs could do, too. Who looks for open
    ports says something readable, the hello of TLS, or nothing.
    """
    if is_keyed and heard.startswith(IN_THE_CLEAR):
        return ("no-key",)
    is_known = heard.startswith((*_OF_OTHERS, IN_THE_CLEAR[:1])) or _is_readable(heard)
    if len(heard) < NONCE_BYTES or is_known or len(set(heard[:NONCE_BYTES])) < NONCE_BYTES * 2 // 3:
        return ()
    return ("key",)


def _is_readable(heard: bytes) -> bool:
    return len(heard) >= 4 and all(0x20 <= byte < 0x7F or byte in b"\r\n" for byte in heard[:8])


def says_no(error: BaseException) -> bool:
    """Whether a stream could not be opened because the other end does not speak its protocol; else it broke off."""
    return any("not supported" in str(cause) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, groups opened, the outermost first."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < MAX_CHAIN:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        several = getattr(one, "exceptions", getattr(one, "errors", ()))  # of a group, and of libp2p's MultiError
        waiting += [cause for cause in several if isinstance(cause, BaseException)]


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()[: limits.MAX_TOLD]
