"""A machine whose addresses come and go while its peer runs: real libp2p on loopback, an invented list of addresses."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from peerd.net.libp2p import interfaces as module
from peerd.net.libp2p import node
from peerd.net.libp2p.interfaces import SystemInterfaces
from peerd.net.transport import Connected, Disconnected, Moved
from peerd.wire.addresses import parse_address

PATIENCE_SECONDS = 30.0
EVERYWHERE = ("/ip4/0.0.0.0/tcp/0",)


class Invented:
    """Addresses that a test makes up; `move` may be called from any thread."""

    def __init__(self, *here: str) -> None:
        self.here, self.looked = here, 0

    def present(self) -> tuple[str, ...]:
        return self.here

    def has(self, host: str) -> bool:
        return host in self.here

    def move(self, *here: str) -> None:
        self.here = here

    async def watch(self, look: Callable[[], Awaitable[None]]) -> None:
        while True:
            await look()
            self.looked += 1
            await trio.sleep(0.01)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "MOVES_APART_SECONDS", 0.0)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():  # noqa: ASYNC110  # what is awaited happens in the other thread
            await asyncio.sleep(0.01)


def hosts(addresses: tuple[str, ...]) -> list[str]:
    return [parse_address(address).host for address in addresses]


def test_an_address_that_comes_is_announced_and_one_that_goes_is_not_any_more(play_libp2p):
    async def scenario(world):
        here = Invented("127.0.0.1")
        one = await world.peer(listen=EVERYWHERE, interfaces=here)

        here.move("192.0.2.5", "127.0.0.1")
        await one.until(Moved, count=1)
        here.move("198.51.100.7", "127.0.0.1")
        await one.until(Moved, count=2)

        moves = [event for event in one.events if isinstance(event, Moved)]
        assert [hosts(one.addresses), *(hosts(move.addresses) for move in moves)] == [
            ["127.0.0.1"],
            ["192.0.2.5", "127.0.0.1"],
            ["198.51.100.7", "127.0.0.1"],
        ]
        ports = {parse_address(address).port for move in moves for address in (*move.addresses, *one.addresses)}
        assert len(ports) == 1

    play_libp2p(scenario)


def test_an_address_of_its_own_to_listen_on_is_not_announced_while_it_is_gone_and_hears_again_when_it_is_back(
    play_libp2p,
):
    async def scenario(world):
        here = Invented("127.0.0.1")
        one, other = await world.peer(interfaces=here), await world.peer()

        here.move("192.0.2.5")
        await one.until(Moved(()))
        here.move("127.0.0.1")
        await one.until(Moved(one.addresses))

        assert isinstance(await other.connect(one), Connected)

    play_libp2p(scenario)


def test_a_connection_from_an_address_that_is_gone_is_closed_at_once(play_libp2p):
    async def scenario(world):
        here = Invented("127.0.0.1")
        one, other = await world.peer(interfaces=here), await world.peer()
        await one.connect(other)
        await one.until(Connected)

        here.move("192.0.2.5")

        await one.until(Disconnected(other.id))
        await other.until(Disconnected(one.id))

    play_libp2p(scenario)


def test_where_nothing_changes_nothing_is_told(play_libp2p):
    async def scenario(world):
        here = Invented("192.0.2.5", "127.0.0.1")
        one, other = await world.peer(interfaces=here), await world.peer()
        await one.connect(other)
        await one.until(Connected)
        looked = here.looked

        await until(lambda: here.looked > looked + 3)

        assert not one.saw(Moved)
        assert not one.saw(Disconnected)

    play_libp2p(scenario)


def test_the_multicast_announcement_begins_anew_from_the_new_addresses(play_libp2p, monkeypatch):
    told: list[list[str]] = []

    async def announce(_me: Any, _network: Any, addresses: list[Any], _tell: Any, *_: Any) -> None:
        told.append([address.host for address in addresses])

    monkeypatch.setattr(node.mdns, "announce_and_listen", announce)

    async def scenario(world):
        here = Invented("127.0.0.1")
        one = await world.peer(listen=EVERYWHERE, interfaces=here, lan=True)
        await until(lambda: len(told) == 1)
        here.move("192.0.2.5", "127.0.0.1")
        await until(lambda: len(told) == 2)
        here.move("198.51.100.7", "127.0.0.1")
        await until(lambda: len(told) == 3)

        assert one.saw(Moved)
        assert told == [["127.0.0.1"], ["192.0.2.5", "127.0.0.1"], ["198.51.100.7", "127.0.0.1"]]

    play_libp2p(scenario)


def test_what_belongs_to_an_interface_that_is_down_or_to_one_link_alone_is_no_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def at(address: str) -> Any:
        return SimpleNamespace(family=socket.AF_INET6 if ":" in address else socket.AF_INET, address=address)

    here = {
        "lo": [at("127.0.0.1"), at("::1")],
        "eth0": [at("fe80::1%eth0"), at("2001:db8::5"), at("192.0.2.5"), SimpleNamespace(family=-1, address="aa:bb")],
        "docker0": [at("172.17.0.1")],
        "young": [at("192.0.2.6")],
    }
    state = {"lo": True, "eth0": True, "docker0": False}
    monkeypatch.setattr(module.psutil, "net_if_addrs", lambda: here)
    monkeypatch.setattr(
        module.psutil, "net_if_stats", lambda: {name: SimpleNamespace(isup=up) for name, up in state.items()}
    )

    assert SystemInterfaces().present() == ("192.0.2.5", "192.0.2.6", "2001:db8::5", "127.0.0.1", "::1")


def test_the_system_lists_its_addresses_and_knows_its_own():
    here = SystemInterfaces()

    assert "127.0.0.1" in here.present()
    assert here.has("127.0.0.1")
    assert not here.has("192.0.2.1")


@pytest.mark.parametrize("is_told", [True, False])
def test_it_is_looked_again_whether_or_not_the_system_says_something(monkeypatch, is_told):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    if not is_told:
        monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    looks: list[int] = []

    async def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise EOFError

    with pytest.raises(EOFError):
        trio.run(SystemInterfaces().watch, look)


def test_a_goodbye_from_an_address_that_is_gone_puts_no_traceback_into_the_log(play_libp2p, caplog):
    async def scenario(world):
        await world.peer()
        logging.getLogger("zeroconf").warning("Error with socket", exc_info=OSError("Network is unreachable"))

        assert "Error with socket" not in caplog.text

    play_libp2p(scenario)
