"""Whole daemons in this process: real shell, core, store, worker process and control socket; no torch, no libp2p."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peerd.config import Config
from peerd.control.client import Client
from peerd.daemon.assembly import Daemon, Ports
from peerd.errors import PeerdError
from peerd.machine.paths import Paths
from peerd.testing.network import MemoryNetwork

PATIENCE_SECONDS = 100.0  # only a broken test waits so long


class Running:
    """A daemon and what can be waited for."""

    def __init__(self, daemon, paths):
        self.daemon, self.paths = daemon, paths
        self.shell, self.journal, self.worker = daemon._shell, daemon._journal, daemon._worker

    @property
    def me(self):
        return self.daemon._key.peer_id

    def status(self):
        return self.daemon.status()

    async def until(self, is_so):
        """Wait for a condition, looking whenever something has happened."""
        changes = self.shell.changes()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so():
                await anext(changes)
        await changes.aclose()

    async def rounds(self, count):
        await self.until(lambda: len(self.journal.records) >= count)
        return list(self.journal.records)

    def stop(self):
        self.daemon._ending.begin("test")


class World:
    """Homes and the wires between daemons."""

    def __init__(self, folder):
        self.folder, self.wires = folder, MemoryNetwork()

    def config(self, kind="text", **options):
        defaults = {"rounds": 3, "steps_per_round": 2, "collect_seconds": 5.0, "warmup_rounds": 0}
        return Config(data=(str(self.folder / kind),), **{**defaults, **options})

    def paths(self, name):
        found = Paths.of(self.folder / name)
        found.prepare()
        return found

    def ports(self, **changes):
        script = str(Path(__file__).parent / "fake_learning.py")
        parts = {
            "transport": lambda key, network, shelf, config: self.wires.node(key.peer_id, shelf, network),
            "prepare": lambda: None,
            "worker": lambda: [sys.executable, script, str(os.getpid())],
            "signals": False,
        }
        return Ports(**{**parts, **changes})

    @asynccontextmanager
    async def daemon(self, name="a", kind="text", *, ports=None, may_fail=False, **options):
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


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:  # short, since a socket's path has to be
        yield World(Path(folder))


class Process:
    """A daemon in a process of its own: real command line, lock, store, socket and signals; no torch, no libp2p."""

    def __init__(self, folder, kind="text", **options):
        self.folder, self.paths = folder / "home", Paths.of(folder / "home")
        (folder / kind).mkdir()
        self.options = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.options += ["--data", str(folder / kind)]
        self.process = None

    def start(self, *, wrap=(), **popen):
        script = str(Path(__file__).parent / "light_start.py")
        command = [*wrap, sys.executable, script, "start", "--home", str(self.folder), *self.options]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        with self.folder.with_suffix(".out").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
                **popen,
            )
        return self

    def said(self):
        return self.folder.with_suffix(".out").read_text()

    def status(self):
        try:
            with Client(socket_path=self.paths.socket) as client:
                return client.status()
        except PeerdError:
            return None

    def rounds(self):
        with Client(socket_path=self.paths.socket) as client:
            return client.rounds()

    def until(self, is_so):
        """The first status for which `is_so` holds; the process has to live."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said()
            if (status := self.status()) is not None and is_so(status):
                return status
            time.sleep(0.05)
        pytest.fail(f"it did not get there: {self.status()}\n{self.said()}")

    def children(self):
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def end(self, number=signal.SIGTERM):
        """Seconds until it has ended after a signal, and the exit code."""
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS), time.monotonic() - began

    def left(self):
        """What an ended daemon should not leave behind."""
        found = [file for file in self.folder.rglob("*") if file.name.startswith(".") or file.suffix == ".temp"]
        found += [*self.paths.scratch.iterdir()] if self.paths.scratch.exists() else []
        return [*found, *([self.paths.socket] if self.paths.socket.exists() else [])]


@pytest.fixture
def process():
    """Makes daemons in processes of their own, and ends what a test leaves running."""
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:
        made = []

        def make(kind="text", **options):
            made.append(Process(Path(folder), kind, **options))
            return made[-1]

        yield make
        for one in made:
            if one.process is not None and one.process.poll() is None:
                one.process.kill()
                one.process.wait(10)
