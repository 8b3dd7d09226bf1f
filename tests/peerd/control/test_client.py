from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peerd
from peerd import AsyncClient, Client
from peerd.control.dashboard_proxy import serve_dashboard
from peerd.control.request import Request
from peerd.errors import NotHealthy, NotRunning, PeerdError, UsageError, WorkerError


def test_a_person_asks_from_python(daemon: Any) -> None:
    with Client(daemon.paths.home) as client:
        assert client.status().name == "alice"
        assert [peer.name for peer in client.peers()] == ["bob", "eve"]
        assert client.trust().row[0].is_me
        assert len(client.rounds(last=5)) == 5
        assert len(client.sent(last=4).updates) == 3  # none yet in the round that is under way
        assert client.identity().addresses
        assert client.health().ok
        assert client.paths()
        assert client.generate("hi", seed=3).own == "hi own 3"
        assert client.export("/x/y").files[0] == "/x/y/adapter_config.json"
        assert client.test().documents == 12


def test_the_async_twin_answers_alike(daemon: Any, view: Any) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(daemon.paths.home) as client:
            found = [
                await client.status(),
                await client.peers(),
                await client.trust(),
                await client.rounds(5),
                await client.sent(5),
            ]
            found += [await client.identity(), await client.health(), await client.paths()]
            found += [await client.generate("hi", seed=3), await client.export("/x/y"), await client.test()]
            await client.stop("enough")
            return found

    with Client(daemon.paths.home) as client:
        expected = [
            client.status(),
            client.peers(),
            client.trust(),
            client.rounds(5),
            client.sent(5),
            client.identity(),
            client.health(),
        ]
        expected += [client.paths(), client.generate("hi", seed=3), client.export("/x/y"), client.test()]

    assert asyncio.run(ask()) == expected
    assert view.stop_reasons == ["enough"]


def test_both_clients_offer_the_same() -> None:
    def offered(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(method).parameters) for name, method in methods if name[0] != "_"}

    assert offered(Client) == offered(AsyncClient)


def test_watching_gives_the_status_at_once_and_at_every_change(daemon: Any, view: Any) -> None:
    seen = Client(daemon.paths.home).watch()
    first = next(seen).round
    daemon.call(view.finish_round)
    second = next(seen).round
    daemon.call(view.stop.set)

    assert (first, second, list(seen)) == (13, 14, [])


def test_watching_from_a_coroutine(daemon: Any, view: Any) -> None:
    async def watch() -> list[int]:
        rounds = []
        async with AsyncClient(daemon.paths.home) as client:
            async for status in client.watch():
                rounds.append(status.round)
                daemon.call(view.finish_round if len(rounds) == 1 else view.stop.set)
        return rounds

    assert asyncio.run(watch()) == [13, 14]


def test_a_failure_comes_back_as_the_error_it_was(daemon: Any) -> None:
    client = Client(daemon.paths.home)
    with pytest.raises(WorkerError, match="ran out of memory") as caught:
        client.generate("fail")
    with pytest.raises(UsageError):
        client.generate("hi", max_tokens=0)

    assert caught.value.hint == "stop other programs"


@pytest.mark.parametrize("leftover", ["nothing", "empty home", "dead socket"])
def test_nobody_there_is_not_running_and_nothing_is_made(home: Path, leftover: str) -> None:
    if leftover != "nothing":
        home.mkdir()
    if leftover == "dead socket":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(home / "peerd.sock"))
    before = list(home.iterdir()) if home.exists() else None

    async def ask() -> None:
        async with AsyncClient(home) as client:
            await client.status()

    with pytest.raises(NotRunning) as caught:
        Client(home).status()
    with pytest.raises(NotRunning):
        next(Client(home).watch())
    with pytest.raises(NotRunning):
        asyncio.run(ask())

    assert caught.value.exit_code == 3
    assert (list(home.iterdir()) if home.exists() else None) == before


@pytest.fixture
def mute(home: Path) -> Path:
    """A socket that accepts and then says nothing, or what it is told."""
    home.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "peerd.sock"))
        listener.listen()
        yield home / "peerd.sock"


def test_a_daemon_that_hangs_is_unhealthy_and_not_absent(mute: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerd.control.client.request_of", lambda *_: Request("GET", "/v1/status", None, 0.05))
    with pytest.raises(NotHealthy, match="did not answer"):
        Client(socket_path=mute).status()


@pytest.mark.parametrize(
    "answer",
    [
        b"hello",
        b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"peer_id":"\xff"}',
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n",
        b"",
    ],
)
def test_an_answer_that_makes_no_sense_is_an_error_and_no_crash(home: Path, answer: bytes) -> None:
    import threading

    home.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "peerd.sock"))
        listener.listen()

        def reply() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(PeerdError):
            Client(socket_path=home / "peerd.sock").status()
        thread.join()


@pytest.mark.parametrize("who", ["made the file", "answers"])
def test_a_socket_that_somebody_else_made_is_told_nothing(
    mute: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    if who == "answers":
        monkeypatch.setattr("peerd.control.client.peer_uid", lambda _: os.getuid() + 1)
    else:
        me = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: me + 1)

    async def ask() -> None:
        async with AsyncClient(socket_path=mute) as client:
            await client.generate("a secret")

    with pytest.raises(PeerdError, match="another user") as told, Client(socket_path=mute) as client:
        client.generate("a secret")
    assert f"(uid {mute.lstat().st_uid})" in str(told.value)
    assert "ask as that user: sudo -u NAME peerd status" in told.value.hint
    if who == "made the file":
        with pytest.raises(PeerdError, match="another user"):
            asyncio.run(ask())
        with pytest.raises(PeerdError, match="another user"):
            asyncio.run(serve_dashboard(mute, 0, asyncio.Event(), lambda _: None))


def test_importing_the_client_is_quick_because_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'httpx', 'typer', 'rich', 'starlette', 'uvicorn', 'libp2p', 'trio', 'pydantic'}"
    code = f"import sys; from peerd import Client; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert peerd.__version__ == version("peerd")


def test_what_peerd_does_not_have_it_says() -> None:
    with pytest.raises(AttributeError, match="Klient"):
        _ = peerd.Klient


@pytest.mark.parametrize(
    ("ask", "named"),
    [
        (lambda c: c.generate("x", seed=10**30), "seed"),
        (lambda c: c.generate("x", seed=-(10**5000)), "seed"),
        (lambda c: c.generate("x", temperature=float("nan")), "temperature"),
        (lambda c: c.generate("x", max_tokens=0), "max_tokens"),
        (lambda c: c.rounds(last=10**5000), "last"),
        (lambda c: c.sent(last=-1), "last"),
        (lambda c: c.unban("x" * 200), "peer_id"),
        (lambda c: c.export(""), "folder"),
    ],
)
def test_from_python_too_a_number_out_of_bounds_is_bad_usage_that_names_it(daemon: Any, ask: Any, named: str) -> None:
    async def asked() -> None:
        async with AsyncClient(daemon.paths.home) as client:
            await ask(client)

    with pytest.raises(UsageError, match=named), Client(daemon.paths.home) as client:
        ask(client)
    with pytest.raises(UsageError, match=named):
        asyncio.run(asked())


def test_a_folder_given_from_python_is_meant_where_the_caller_stands(
    daemon: Any, view: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Client(daemon.paths.home) as client:
        client.export("adapter")

    assert view.exported == [str(tmp_path / "adapter")]
