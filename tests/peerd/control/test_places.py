"""Silent, slow and greedy connections at the control socket and at the dashboard's port: who works always gets in."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.control import handlers, places
from peerd.control.answers import Continuations
from peerd.control.client import Client
from peerd.control.credentials import peer_pid
from peerd.control.places import MAX_CONNECTIONS
from peerd.control.questions import GenerateQuestion
from peerd.control.seats import Seats
from peerd.errors import Busy, NotRunning

ASKING = b"GET /v1/status HTTP/1.1\r\nHost: peerd\r\n\r\n"
WATCHING = b"GET /v1/events HTTP/1.1\r\nHost: peerd\r\n\r\n"


@pytest.fixture
def dial(daemon: Any) -> Iterator[Callable[[bytes], socket.socket]]:
    """Connections to the control socket, each with its first bytes sent."""
    with contextlib.ExitStack() as stack:

        def connected(first: bytes = b"") -> socket.socket:
            caller = stack.enter_context(socket.socket(socket.AF_UNIX))
            caller.connect(str(daemon.paths.socket))  # without a time limit: it waits where the queue is full
            caller.settimeout(20)
            caller.sendall(first)
            return caller

        yield connected


def is_over(caller: socket.socket) -> bool:
    """Whether the other end has closed it, read to its end."""
    try:
        while caller.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


SILENT = [
    b"",
    b"GET /v1/status HT",
    b"POST /v1/generate HTTP/1.1\r\nHost: peerd\r\nContent-Length: 50\r\n\r\n{",
    ASKING,  # answered, and then silent
]


@pytest.mark.parametrize("first", SILENT)
def test_silent_connections_in_every_place_keep_nobody_out(dial: Any, daemon: Any, first: bytes) -> None:
    callers = [dial(first) for _ in range(MAX_CONNECTIONS)]
    if first == ASKING:
        assert all(b"200 OK" in caller.recv(65536) for caller in callers)

    assert [Client(socket_path=daemon.paths.socket).status().name for _ in range(5)] == ["alice"] * 5


def test_whoever_was_waited_for_longest_gives_way(dial: Any, daemon: Any) -> None:
    callers = [dial() for _ in range(MAX_CONNECTIONS)]
    Client(socket_path=daemon.paths.socket).status()
    oldest = callers.pop(0)
    for caller in callers:
        caller.sendall(ASKING)

    assert is_over(oldest)
    assert all(b"200 OK" in caller.recv(65536) for caller in callers)


def test_whoever_is_answered_keeps_its_place(dial: Any, daemon: Any, view: Any) -> None:
    lines = dial(WATCHING).makefile("rb")
    assert b"200 OK" in lines.readline()
    while not lines.readline().startswith(b"data: "):
        pass
    for _ in range(3 * MAX_CONNECTIONS):
        dial()
    Client(socket_path=daemon.paths.socket).status()
    daemon.call(view.finish_round)
    while not (line := lines.readline()).startswith(b"data: "):
        pass

    assert b'"round":14' in line


@pytest.mark.parametrize("first", SILENT)
def test_a_connection_that_is_waited_for_too_long_ends(
    dial: Any, daemon: Any, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.05)

    assert is_over(dial(first))


def test_a_request_that_trickles_has_no_longer_than_one_that_does_not(
    dial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.2)
    caller = dial()
    caller.settimeout(0.01)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 2000:  # twenty seconds of it
            caller.sendall(b"G")
            sent += 1
            with contextlib.suppress(TimeoutError):
                if not caller.recv(1):
                    break

    assert sent < 1000


def test_a_reader_that_does_not_read_ends(dial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 0.1)
    caller = dial()
    caller.settimeout(5)

    with pytest.raises(ConnectionError):
        caller.sendall(ASKING * 40_000)  # answers of some kB each: far more than the kernel holds for us


def test_jobs_of_one_process_leave_room_for_others_and_for_questions(
    daemon: Any, view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()
    asked: list[str] = []

    async def generate(question: GenerateQuestion) -> Continuations:
        asked.append(question.prompt)
        await over.wait()
        return Continuations(prompt="", base="", own="", personal="", served="", served_by="personal")

    monkeypatch.setattr(view, "generate", generate)
    client = Client(socket_path=daemon.paths.socket)
    with ThreadPoolExecutor(handlers.MAX_JOBS_OF_ONE + 1) as crowd:
        jobs = [crowd.submit(client.generate, str(n)) for n in range(handlers.MAX_JOBS_OF_ONE)]
        while len(asked) < handlers.MAX_JOBS_OF_ONE:
            client.status()
        with pytest.raises(Busy, match="of your process") as caught:
            client.generate("one more")
        with monkeypatch.context() as patch:
            patch.setattr("peerd.control.serve.peer_pid", lambda _: 1)
            another = crowd.submit(client.generate, "of another process")
            while len(asked) == handlers.MAX_JOBS_OF_ONE:
                client.status()
        daemon.call(over.set)
        done = [job.result(20) for job in (*jobs, another)]

    assert caught.value.hint
    assert len(done) == handlers.MAX_JOBS_OF_ONE + 1
    assert client.generate("now").own == ""


def test_where_everybody_is_answered_a_newcomer_hears_that_it_is_busy(
    dial: Any, daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MAX_CONNECTIONS", 3)
    watchers = [dial(WATCHING) for _ in range(3)]
    assert all(b"200 OK" in watcher.recv(200) for watcher in watchers)

    with pytest.raises(Busy):
        Client(socket_path=daemon.paths.socket).status()


def test_a_queue_that_is_full_for_a_moment_is_waited_for(home: Any) -> None:
    home.mkdir()
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as first,
        ThreadPoolExecutor(1) as other,
    ):
        listener.bind(str(home / "s"))
        listener.listen(0)
        first.connect(str(home / "s"))
        asked = other.submit(Client(socket_path=home / "s").status)
        with pytest.raises(TimeoutError):
            asked.result(0.05)
        listener.accept()[0].close()
        caller, _ = listener.accept()
        caller.close()

        with pytest.raises(NotRunning, match="ended before it answered"):
            asked.result(20)


def test_the_kernel_says_which_process_calls() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_pid(here) == os.getpid()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_shares_never_exceed_either_bound(moves: list[tuple[int, bool]]) -> None:
    seats = Seats(most=5, of_one=2)
    held: list[int] = []
    for caller, takes in moves:
        if takes and seats.take(caller):
            held.append(caller)
        elif not takes and caller in held:
            held.remove(caller)
            seats.give_back(caller)

        assert len(held) <= 5
        assert all(held.count(one) <= 2 for one in held)
    assert seats.take(9) is (len(held) < 5)
