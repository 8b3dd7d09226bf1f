"""Who may ask `peerd serve`. A port of this machine is open to every program on it, and to every page in a browser.

key      Whoever shows it may ask. A page or another user of this machine does not know it, and no page is told
         that it may send one (no CORS). Compared in constant time.
no key   For clients that cannot send one. Then what comes from a page (Origin) is refused, and on Linux also a
         connection that another user of this machine made; elsewhere the system does not tell.
Host     Has to name this machine as itself: a page whose name was made to point here (DNS rebinding) names its own.
socket   With a Unix socket the kernel vouches for the user, and no browser reaches it.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from peerd.control.places import Place
from peerd.serving.failures import failed

OWN_HOST = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
OPEN_TO_ALL = "/"  # says that something is here, which the port itself does
TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
MAX_TABLE = 1 << 20  # bytes; a machine with so many connections is asked no further


class ServingGate:
    """Refuses before anything is read of a request but its head."""

    def __init__(self, app: ASGIApp, key: str | None, *, is_loopback: bool) -> None:
        """`key` None: none is needed."""
        self._app, self._is_loopback = app, is_loopback
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401 or 403."""
        headers = dict(scope["headers"])
        if self._is_loopback and not OWN_HOST.fullmatch(headers.get(b"host", b"")):
            said = "asked as another machine; the address is http://127.0.0.1 and the port"
            await failed(scope["path"], 403, said)(scope, receive, send)
        elif self._key is None and b"origin" in headers:
            said = "pages in a browser are answered with a key only: start without --no-key"
            await failed(scope["path"], 403, said)(scope, receive, send)
        elif self._key is not None and scope["path"] != OPEN_TO_ALL and not self._knows(headers):
            said = "the key is missing or wrong: send 'Authorization: Bearer KEY'; see it with: peerd serve --show-key"
            await failed(scope["path"], 401, said)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _knows(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, offered = headers.get(b"authorization", b"").partition(b" ")
        is_right = secrets.compare_digest(offered.strip(), self._key or b"")
        return scheme.lower() == b"bearer" and is_right


class OwnUserOnly(Place):
    """HTTP for connections that this user made, as far as the system tells."""

    def is_welcome(self) -> bool:
        """Ask the kernel who made the other end."""
        uid = maker_of(self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname"))
        return uid in {None, os.getuid()}


def can_tell() -> bool:
    """Whether this system says who made a connection to a port."""
    return TABLES[0].is_file()


def maker_of(other: tuple[str, int], own: tuple[str, int], tables: Iterable[Path] = TABLES) -> int | None:
    """The user whose socket `other` is, connected to `own`; None if the system does not tell, -1 for nobody's.

    https://docs.kernel.org/networking/proc_net_tcp.html
    """
    known = False
    for table, spell in zip(tables, (_four, _six), strict=True):
        try:
            with table.open("rb") as file:
                rows = file.read(MAX_TABLE).decode("ascii", "replace").splitlines()[1:]
        except OSError:
            continue
        known = True
        for row in rows:
            if (cells := row.split())[1:3] == [spell(*other), spell(*own)]:
                return int(cells[7])
    return -1 if known else None


def _four(host: str, port: int) -> str:
    """As the table of IPv4 spells an address: in the order of this machine's bytes."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"


def _six(host: str, port: int) -> str:
    """The same address of a socket that speaks both, mapped into IPv6."""
    return f"{0:016X}{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}{_four(host, port)}"
