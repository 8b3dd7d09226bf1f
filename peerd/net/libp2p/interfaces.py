"""Which addresses this machine has, and when that may have changed: a machine moves, and so do its peers' ways to it.

Linux says so itself (netlink, the groups of links and addresses); what it says is not read, only that it says
something. Elsewhere, and if it says nothing, as in some containers, it is looked every few seconds; that costs a
fraction of a millisecond. A socket that listens on an address outlives the address on Linux, and hears again when the
address is back, on another link too, so that nothing has to be bound anew here.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import psutil
import trio

LOOK_SECONDS = 10.0  # between two looks if nobody says that something has changed
SETTLE_SECONDS = 1.0  # an address that comes brings a handful of messages, and IPv6 is first tried out
LOOPBACK = ("127.0.0.1", "::1")  # for daemons of one machine
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR of linux/rtnetlink.h
_MAX_MESSAGES = 1024  # of the system that are thrown away at one time


class Interfaces(Protocol):
    """Of one machine."""

    def present(self) -> tuple[str, ...]:
        """The IP addresses that it has now, those of loopback included."""
        ...

    def has(self, host: str) -> bool:
        """Whether that IP address is its own now, listed or not, as all of 127.0.0.0/8 are."""
        ...

    async def watch(self, look: Callable[[], Awaitable[None]]) -> None:
        """Have it looked, now and whenever something may have changed; until cancelled."""
        ...


class SystemInterfaces:
    """Those of the machine that this process runs on."""

    def present(self) -> tuple[str, ...]:
        """As the system lists them, of interfaces that are up: what belongs to one that is not leads nowhere."""
        return (*addresses_up(), *LOOPBACK)

    def has(self, host: str) -> bool:
        """What can be bound is here."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((host, 0))
        except OSError:
            return False
        return True

    async def watch(self, look: Callable[[], Awaitable[None]]) -> None:
        """When the system says something, and every few seconds."""
        with _netlink() as said:
            while True:
                await look()
                if said is None:
                    await trio.sleep(LOOK_SECONDS)
                    continue
                with trio.move_on_after(LOOK_SECONDS) as patience:
                    await trio.lowlevel.wait_readable(said.fileno())
                if not patience.cancelled_caught:
                    await trio.sleep(SETTLE_SECONDS)
                    _drop(said)


def addresses_up() -> tuple[str, ...]:
    """IPv4 before IPv6; no loopback, and nothing that means something on one link only."""
    state = psutil.net_if_stats()
    found = [
        ipaddress.ip_address(one.address.partition("%")[0])
        for name, here in psutil.net_if_addrs().items()
        for one in here
        if one.family in {socket.AF_INET, socket.AF_INET6} and (name not in state or state[name].isup)
    ]
    return tuple(
        str(ip) for ip in sorted(found, key=lambda ip: ip.version) if not ip.is_loopback and not ip.is_link_local
    )


@contextmanager
def _netlink() -> Iterator[socket.socket | None]:
    """A socket on which Linux says what changes; None if there is none."""
    family: Any = getattr(socket, "AF_NETLINK", None)
    with ExitStack() as opened:
        said: socket.socket | None = None
        try:
            if family is not None:
                said = opened.enter_context(socket.socket(family, socket.SOCK_RAW, 0))
                said.bind((0, _GROUPS))
                said.setblocking(False)
        except OSError:
            said = None
        yield said


def _drop(said: socket.socket) -> None:
    """What has been said up to now."""
    for _ in range(_MAX_MESSAGES):
        if not _read(said):
            return


def _read(said: socket.socket) -> bytes:
    """Nothing if nothing waits, and if so much was said that the system gave up (ENOBUFS)."""
    try:
        return said.recv(65536)
    except OSError:
        return b""
