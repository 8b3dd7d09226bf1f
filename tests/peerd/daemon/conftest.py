"""Whole daemons in this process: real shell, core, store, worker process and control socket; no torch, no libp2p."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peerd.config import Config
from peerd.daemon import Daemon, Outside
from peerd.net.memory import MemoryNetwork
from peerd.paths import Paths

PATIENCE_SECONDS = 30.0  # only a broken test waits so long


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

    def outside(self, **changes):
        script = str(Path(__file__).parent / "fake_learning.py")
        parts = {
            "transport": lambda key, network, shelf, config: self.wires.node(key.peer_id, shelf, network),
            "prepare": lambda: None,
            "worker": lambda: [sys.executable, script, str(os.getpid())],
            "signals": False,
        }
        return Outside(**{**parts, **changes})

    @asynccontextmanager
    async def daemon(self, name="a", kind="text", *, outside=None, **options):
        """A running daemon, stopped in order at the end of the block."""
        paths = self.paths(name)
        (self.folder / kind).mkdir(exist_ok=True)
        daemon = Daemon(paths, self.config(kind, **options), lambda _: None, outside or self.outside())
        running = Running(daemon, paths)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run(), name=f"daemon {name}")
            try:
                yield running
            finally:
                running.stop()


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:  # short, since a socket's path has to be
        yield World(Path(folder))
