"""Dialling what strangers announced, without a network."""

from __future__ import annotations

import errno
import socket
import threading
from typing import Any

import pytest
import trio

from peerd.errors import TransportError
from peerd.net.libp2p import dialling as dialling_module
from peerd.net.libp2p.dialling import Tried, dial, dialled, most_telling
from peerd.net.libp2p.host import check_free
from peerd.net.transport import Failed
from peerd.wire.addresses import Address
from tests.fuzz.stream import OTHER_SIDE, Script, ScriptedHost

NEXT = Address("ip4", "192.0.2.1", 2, OTHER_SIDE)


def dialling(*addresses: Address, look_up: Any = None) -> Any:
    return trio.run(dial, ScriptedHost(Script.of(b"")), OTHER_SIDE, addresses, (), look_up)


def where(*answers: tuple[int, str]) -> Any:
    """A resolver that says this of whatever it is asked."""

    def look_up(_host: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        asked = [(is_of, host) for is_of, host in answers if family in {socket.AF_UNSPEC, is_of}]
        if not asked:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (is_of, kind, 6, "", (host, port, 0, int("%" in host))[: 2 if is_of == socket.AF_INET else 4])
            for is_of, host in asked
        ]

    return look_up


@pytest.mark.parametrize("host", ["xn--c", "a.8n--c", "xn--" + "a" * 59, "nobody.invalid"])
def test_a_host_name_that_does_not_resolve_does_not_keep_the_next_address_from_being_dialled(host: str) -> None:
    assert dialling(Address("dns", host, 1, OTHER_SIDE), NEXT, look_up=where()) == NEXT


def test_a_host_name_that_does_not_resolve_is_told_as_that() -> None:
    failed = dialling(Address("dns4", "ada.local", 1, OTHER_SIDE), look_up=where())

    assert failed.reason == "no-such-name"
    assert failed.detail == "the name ada.local does not resolve here (Name or service not known)"
    assert failed.address == f"/dns4/ada.local/tcp/1/p2p/{OTHER_SIDE}"


def test_a_name_server_that_hangs_is_waited_for_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling_module, "RESOLVE_SECONDS", 0.05)
    over = threading.Event()
    try:
        outcome = trio.run(
            dial,
            ScriptedHost(Script.of(b"")),
            OTHER_SIDE,
            [Address("dns", "slow", 1), NEXT],
            (),
            lambda *_: over.wait(),
        )
    finally:
        over.set()

    assert outcome == NEXT


@pytest.mark.parametrize(
    ("kind", "dialled_at"),
    [
        ("dns", ["/ip6/fd00::1/tcp/7", "/ip4/192.0.2.7/tcp/7"]),
        ("dns4", ["/ip4/192.0.2.7/tcp/7"]),
        ("dns6", ["/ip6/fd00::1/tcp/7"]),
    ],
)
def test_a_name_is_resolved_by_its_kind_each_time_and_zones_are_left_out(kind: str, dialled_at: list[str]) -> None:
    answers = [(socket.AF_INET6, "fe80::2%eth0"), (socket.AF_INET6, "fd00::1"), (socket.AF_INET, "192.0.2.7")]
    host = DeafHost(Script.of(b""))

    for _ in range(2):
        trio.run(dial, host, OTHER_SIDE, [Address(kind, "ada.local", 7, OTHER_SIDE)], (), where(*answers))

    assert host.asked == 2 * dialled_at


class DeafHost(ScriptedHost):
    """Nobody answers it."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.asked: list[str] = []

    async def connect(self, info: Any) -> None:
        self.asked += [str(address) for address in info.addrs]
        raise OSError(errno.ECONNREFUSED, "Connection refused")


def test_an_address_is_dialled_as_it_is_written() -> None:
    assert str(dialled(Address("ip4", "192.0.2.1", 2))) == "/ip4/192.0.2.1/tcp/2"


def test_of_many_failures_that_of_the_address_a_person_gave_is_told_and_else_the_most_telling() -> None:
    tried = tuple(
        Tried(Address("ip4", f"192.0.2.{n}", 1, OTHER_SIDE), Failed(reason))
        for n, reason in enumerate(("no-route", "other-identity", "connection-refused"))
    )

    assert most_telling(tried).reason == "other-identity"
    assert most_telling(tried, {tried[0].address}).reason == "no-route"
    assert most_telling(()).reason == "unreachable"


def test_an_address_that_cannot_be_listened_on_is_named_with_what_to_type_instead() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(TransportError, match=f"/ip4/127.0.0.1/tcp/{port}: Address already in use") as taken:
            check_free(Address("ip4", "127.0.0.1", port))
    with pytest.raises(
        TransportError, match=r"/ip4/192\.0\.2\.1/tcp/4001: Cannot assign requested address"
    ) as elsewhere:
        check_free(Address("ip4", "192.0.2.1", 4001))

    assert "/ip4/127.0.0.1/tcp/0 for any free one" in taken.value.hint
    assert elsewhere.value.hint.endswith("--listen /ip4/0.0.0.0/tcp/4001")
