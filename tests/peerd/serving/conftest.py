"""`peerd serve` before a daemon without network, model or clock; see tests/support/view.py."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peerd.machine.paths import Paths
from peerd.serving.run import serve
from tests.support.view import Daemon, FakeView

KEY = "peerd-" + "k" * 43
PATIENCE_SECONDS = 20.0


class Served:
    """A running `peerd serve`, asked with bare HTTP."""

    def __init__(self, port: int, view: FakeView) -> None:
        self.port, self.view, self.key = port, view, KEY
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str | None) -> tuple[int, dict[str, str], Any]:
        """Status, headers and the document, or text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        sent: dict[str, str | None] = {"Authorization": f"Bearer {self.key}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        text = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, text, {name: value for name, value in sent.items() if value is not None})
        response = connection.getresponse()
        found = response.read()
        connection.close()
        told = {name.lower(): value for name, value in response.getheaders()}
        return response.status, told, json.loads(found) if "json" in told.get("content-type", "") else found.decode()

    def until(self, holds: Callable[[], bool]) -> bool:
        """Whether it came to hold in good time."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not holds() and time.monotonic() < end:
            time.sleep(0.005)
        return holds()


@contextlib.contextmanager
def serving(paths: Paths, view: FakeView, *, key: str | None = KEY, at: Path | None = None) -> Iterator[Served]:
    """In a thread with a loop of its own, as the daemon is."""
    opened: list[int] = []
    up, loops = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))

        def tell(port: int) -> None:
            opened.append(port)
            up.set()

        await serve(paths, stop, port=0, socket=at, key=key, opened=tell)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert up.wait(PATIENCE_SECONDS)
    yield Served(opened[0], view)
    loop, stop = loops[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def running() -> Iterator[Served]:
    """One for all of them, but for those that need a daemon that goes."""
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        paths, view = Paths.of(Path(folder) / "home"), FakeView(rounds=3)
        with Daemon(paths, view), serving(paths, view) as found:
            yield found


@pytest.fixture
def served(running: Served) -> Served:
    running.view.responses.clear()
    running.view.cancelled.clear()
    return running


@pytest.fixture
def fresh() -> Iterator[Paths]:
    """Of a daemon that is not there yet."""
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        yield Paths.of(Path(folder) / "home")


@pytest.fixture
def start() -> Callable[..., contextlib.AbstractContextManager[Served]]:
    return serving


@pytest.fixture
def daemon_of() -> type[Daemon]:
    return Daemon
