"""Whole daemons in this process: real shell, core, store, worker process and control socket; no torch, no libp2p."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from p2pfinetune.names import PeerId
from peerd.config import Config
from peerd.control.client import Client
from peerd.daemon.assembly import Daemon
from peerd.daemon.ports import Ports
from peerd.errors import PeerdError
from peerd.machine.paths import Paths
from peerd.status import RoundRecord, Status
from peerd.testing.network import MemoryNetwork
from tests.support import learning
from tests.support.processes import children_of

PATIENCE_SECONDS = 100.0  # only a broken test waits so long


class Running:
    """A daemon and what can be waited for."""

    def __init__(self, daemon: Daemon, paths: Paths) -> None:
        self.daemon, self.paths = daemon, paths
        self.shell, self.journal, self.worker = daemon._shell, daemon._journal, daemon._worker

    @property
    def me(self) -> PeerId:
        return self.daemon._key.peer_id

    def status(self) -> Status:
        return self.daemon.status()

    async def until(self, is_so: Callable[[], object]) -> None:
        """Wait for a condition, looking whenever something has happened."""
        changes = self.shell.changes()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so():
                await anext(changes)
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()

    async def rounds(self, count: int) -> list[RoundRecord]:
        await self.until(lambda: len(self.journal.records) >= count)
        return list(self.journal.records)

    def stop(self) -> None:
        self.daemon._ending.begin("test")


class World:
    """Homes and the wires between daemons."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wires = folder, MemoryNetwork()

    def config(self, kind: str = "text", **options: Any) -> Config:
        defaults: dict[str, Any] = {"rounds": 3, "steps_per_round": 2, "collect_seconds": 5.0, "warmup_rounds": 0}
        return Config(data=(str(self.folder / kind),), **{**defaults, **options})

    def paths(self, name: str) -> Paths:
        found = Paths.of(self.folder / name)
        found.prepare()
        return found

    def ports(self, **changes: Any) -> Ports:
        script = learning.__file__
        parts: dict[str, Any] = {
            "transport": lambda key, network, shelf, config: self.wires.node(key.peer_id, shelf, network),
            "prepare": lambda: None,
            "worker": lambda: [sys.executable, script, str(os.getpid())],
            "signals": False,
        }
        return Ports(**{**parts, **changes})

    @asynccontextmanager
    async def daemon(
        self, name: str = "a", kind: str = "text", *, ports: Ports | None = None, may_fail: bool = False, **options: Any
    ) -> AsyncIterator[Running]:
        """A running daemon, stopped in order at the end of the block. What nobody foresaw is a failure of the test."""
        paths = self.paths(name)
        (self.folder / kind).mkdir(exist_ok=True)
        daemon = Daemon(paths, self.config(kind, **options), lambda _: None, ports or self.ports())
        running = Running(daemon, paths)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(), name=f"daemon {name}")
            try:
                yield running
            finally:
                running.stop()
        assert may_fail or daemon._failures.now().counts == {}, daemon._failures.now().last


class Process:
    """A daemon in a process of its own: real command line, lock, store, socket and signals; no torch, no libp2p."""

    def __init__(self, folder: Path, kind: str = "text", **options: object) -> None:
        self.folder, self.paths = folder / "home", Paths.of(folder / "home")
        (folder / kind).mkdir()
        self.options = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.options += ["--data", str(folder / kind)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Of its present or last life."""
        assert self._process is not None, "it was never started"
        return self._process

    def start(self, *, wrap: Sequence[str] = (), **popen: Any) -> Self:
        script = str(Path(__file__).parent / "light_start.py")
        command = [*wrap, sys.executable, script, "start", "--home", str(self.folder), *self.options]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        with self.folder.with_suffix(".out").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
                **popen,
            )
        return self

    def said(self) -> str:
        return self.folder.with_suffix(".out").read_text()

    def status(self) -> Status | None:
        """None while nobody answers."""
        try:
            with Client(socket_path=self.paths.socket) as client:
                return client.status()
        except PeerdError:
            return None

    def rounds(self) -> list[RoundRecord]:
        with Client(socket_path=self.paths.socket) as client:
            return client.rounds()

    def until(self, is_so: Callable[[Status], object]) -> Status:
        """The first status for which `is_so` holds; the process has to live."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            if (status := self.status()) is not None and is_so(status):
                return status
            time.sleep(0.05)
        pytest.fail(f"it did not get there: {self.status()}\n{self.said()}")

    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Seconds until it has ended after a signal, and the exit code."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS), time.monotonic() - began

    def kill(self) -> None:
        """What runs still."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(10)

    def left(self) -> list[Path]:
        """What an ended daemon should not leave behind."""
        found = [file for file in self.folder.rglob("*") if file.name.startswith(".") or file.suffix == ".temp"]
        found += [*self.paths.scratch.iterdir()] if self.paths.scratch.exists() else []
        return [*found, *([self.paths.socket] if self.paths.socket.exists() else [])]
