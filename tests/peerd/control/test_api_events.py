from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from peerd.control import serve as served
from peerd.control.event_stream import MAX_WATCHERS, MAX_WATCHERS_OF_ONE, EventStream
from peerd.status import Status


class Watcher:
    """The server's side of one connection: what was sent, and whether it still takes anything."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.arrived = asyncio.Event()
        self.takes = asyncio.Event()
        self.takes.set()
        self.left = asyncio.Event()
        self.aborted = False
        self.ended = False

    async def send(self, message: dict[str, Any]) -> None:
        await self.takes.wait()
        if message["type"] == "http.response.body":
            self.sent.append(message["body"])
            self.ended = not message["more_body"]
            self.arrived.set()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    def abort(self) -> None:
        self.aborted = True

    async def next(self) -> None:
        await self.arrived.wait()
        self.arrived.clear()


class Source:
    """A number that changes when told."""

    def __init__(self) -> None:
        self.value = 0
        self.event = asyncio.Event()
        self.is_watched = True

    def change(self) -> None:
        self.value += 1
        self.event.set()

    async def changes(self) -> AsyncIterator[None]:
        try:
            while True:
                await self.event.wait()
                self.event.clear()
                yield
        finally:
            self.is_watched = False

    def stream(self, stop: asyncio.Event | None = None, **seconds: float) -> EventStream:
        options = {"interval_seconds": 0.0, **seconds}
        return EventStream("status", lambda: b"%d" % self.value, self.changes(), stop=stop, **options)


async def watching(stream: EventStream, watcher: Watcher) -> None:
    async with asyncio.timeout(20):
        await stream({"type": "http", "state": {"abort": watcher.abort}}, watcher.receive, watcher.send)


def test_the_whole_snapshot_comes_first_and_then_every_change() -> None:
    async def scenario() -> list[bytes]:
        source, watcher = Source(), Watcher()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watching(source.stream(), watcher))
            await watcher.next()
            source.change()
            await watcher.next()
            watcher.left.set()
        return watcher.sent

    assert asyncio.run(scenario()) == [b"event: status\ndata: 0\n\n", b"event: status\ndata: 1\n\n"]


def test_changes_while_a_watcher_is_busy_become_one_message() -> None:
    async def scenario() -> list[bytes]:
        source, watcher = Source(), Watcher()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watching(source.stream(), watcher))
            await watcher.next()
            watcher.takes.clear()
            for _ in range(1000):
                source.change()
                await asyncio.sleep(0)
            watcher.takes.set()
            while watcher.sent[-1] != b"event: status\ndata: 1000\n\n":
                await watcher.next()
            watcher.left.set()
        return watcher.sent

    assert len(asyncio.run(scenario())) <= 3


def test_a_watcher_that_does_not_read_is_cut_off() -> None:
    async def scenario() -> tuple[bool, bool]:
        source, watcher = Source(), Watcher()
        watcher.takes.clear()
        await watching(source.stream(slow_seconds=0.01), watcher)
        await asyncio.sleep(0)
        return watcher.aborted, watcher.ended

    assert asyncio.run(scenario()) == (True, False)


def test_a_quiet_daemon_gives_a_sign_of_life() -> None:
    async def scenario() -> list[bytes]:
        source, watcher = Source(), Watcher()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watching(source.stream(beat_seconds=0.01), watcher))
            await watcher.next()
            await watcher.next()
            watcher.left.set()
        return watcher.sent

    assert asyncio.run(scenario())[1] == b": still here\n\n"


def test_the_stream_ends_in_order_when_the_daemon_stops() -> None:
    async def scenario() -> bool:
        source, watcher, stop = Source(), Watcher(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watching(source.stream(stop), watcher))
            await watcher.next()
            stop.set()
        return watcher.ended

    assert asyncio.run(scenario()) is True


def connect(daemon: Any) -> socket.socket:
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.settimeout(20)
    caller.connect(str(daemon.paths.socket))
    caller.sendall(b"GET /v1/events HTTP/1.1\r\nHost: peerd\r\n\r\n")
    return caller


def test_over_the_socket_a_finished_round_is_pushed(daemon: Any, view: Any) -> None:
    with connect(daemon) as caller, caller.makefile("rb") as lines:
        rounds = []
        for line in lines:
            if line.startswith(b"data: "):
                rounds.append(Status(**json.loads(line[6:])).round)
                if len(rounds) == 2:
                    break
                daemon.call(view.finish_round)

    assert rounds == [13, 14]


@pytest.fixture
def _as_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection as if of a process of its own."""
    pids = itertools.count(1)
    monkeypatch.setattr(served, "peer_pid", lambda _: next(pids))


def test_one_process_leaves_room_for_watchers_of_others(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    callers = [connect(daemon) for _ in range(MAX_WATCHERS_OF_ONE + 1)]
    answers = [caller.recv(100) for caller in callers]
    monkeypatch.setattr(served, "peer_pid", lambda _: 1)
    another = connect(daemon)
    heard = another.recv(100)
    for caller in (*callers, another):
        caller.close()

    assert [b"200 OK" in answer for answer in answers] == [True] * MAX_WATCHERS_OF_ONE + [False]
    assert b" 503 " in answers[-1]
    assert b"200 OK" in heard


@pytest.mark.usefixtures("_as_many_processes")
def test_one_watcher_too_many_is_told_so(daemon: Any) -> None:
    callers = [connect(daemon) for _ in range(MAX_WATCHERS)]
    assert all(b"200 OK" in caller.recv(100) for caller in callers)
    extra = connect(daemon)
    answer = extra.recv(100)
    for caller in (*callers, extra):
        caller.close()

    assert b" 503 " in answer


@pytest.mark.usefixtures("_as_many_processes")
@pytest.mark.parametrize("leave", [True, False])
def test_a_watcher_that_left_makes_room(daemon: Any, view: Any, leave: bool) -> None:
    callers = [connect(daemon) for _ in range(MAX_WATCHERS)]
    assert all(b"200 OK" in caller.recv(100) for caller in callers)
    if leave:
        callers.pop().close()
        while len(view._watchers) == MAX_WATCHERS:
            pass
    extra = connect(daemon)
    answer = extra.recv(100)
    for caller in (*callers, extra):
        caller.close()

    assert (b" 200 " in answer) is leave
