"""Real daemons as a person starts them: `peerd start` in processes of their own, libp2p on loopback, a tiny model.

Starting one costs some seconds of CPU time (torch, transformers, libp2p), so tests of a file share what they can.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from p2pfinetune.names import PeerId
from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.config_file import write_config
from peerd.control.client import Client
from peerd.errors import NotHealthy, NotRunning, PeerdError
from peerd.machine.lock import holder
from peerd.machine.paths import Paths
from peerd.status import RoundRecord, Status
from peerd.store.port import Checkpoint
from peerd.store.sqlite import SqliteStore
from tests.support.models import make_model
from tests.support.processes import children_of
from tests.support.texts import write_text

PATIENCE_SECONDS = 180.0  # on a machine that is busy with other things
LOOK_SECONDS = 0.2


class Home:
    """One daemon's folder, and its process where one runs."""

    def __init__(self, folder: Path, config: Config, prefix: Sequence[str] = ()) -> None:
        self.folder, self.config, self.paths = folder, config, Paths.of(folder)
        self.prefix = list(prefix)  # of every command: where it runs
        self._process: subprocess.Popen[bytes] | None = None
        self.output = folder.with_suffix(".out")
        self.peer_id = PeerId("")
        self.paths.prepare()
        write_config(self.paths.config, config)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Of its present or last life."""
        assert self._process is not None, "it was never started"
        return self._process

    def change(self, **options: Any) -> None:
        self.config = msgspec.structs.replace(self.config, **options)
        write_config(self.paths.config, self.config)

    def start(self, fault: str = "") -> Self:
        """`fault`: see peerd/machine/faults.py."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command("start"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **({"PEERD_FAULT": fault} if fault else {})},
            )
        return self

    def command(self, name: str, *arguments: str) -> list[str]:
        return [*self.prefix, *interpreter.command("-m", "peerd"), name, "--home", str(self.folder), *arguments]

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of the CLI to its end."""
        return subprocess.run(self.command(name, *arguments), capture_output=True, text=True, timeout=60, check=False)

    def json(self, name: str, *arguments: str) -> Any:
        return json.loads(self.run(name, "--json", *arguments).stdout)

    def client(self) -> Client:
        return Client(home=self.folder)

    def status(self) -> Status | None:
        """None while nobody answers."""
        try:
            with self.client() as client:
                return client.status()
        except (NotRunning, NotHealthy, PeerdError):
            return None

    def until(self, is_so: Callable[[Status], object], seconds: float = PATIENCE_SECONDS) -> Status:
        """The first status for which `is_so` holds; the process has to live."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                pytest.fail(f"{self.folder.name} ended with {self._process.returncode}:\n{self.said()}")
            status = self.status()
            if status is not None and is_so(status):
                return status
            time.sleep(LOOK_SECONDS)
        pytest.fail(f"{self.folder.name} did not get there: {self.status()}\n{self.said()}")

    def ready(self) -> Status:
        return self.until(lambda status: status.state != "starting")

    def rounds(self) -> list[RoundRecord]:
        with self.client() as client:
            return client.rounds()

    def said(self) -> str:
        return self.output.read_text()[-4000:]

    def stop(self) -> int:
        """In order; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """As the kernel does for lack of memory: the daemon alone, nothing is told."""
        self.process.kill()
        self.process.wait(10)

    def checkpoint(self) -> Checkpoint | None:
        """Of a daemon that does not run."""
        assert holder(self.paths.lock) is None
        store = SqliteStore(self.paths.database, epoch=1)
        try:
            return store.checkpoint()
        finally:
            store.close()

    def children(self) -> list[int]:
        """Processes whose parent is the daemon."""
        return children_of(self.process.pid)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
                self.process.terminate()
            try:
                self.process.wait(16)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)


class Town:
    """Homes on one machine that share a model."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model, self.homes = folder, model, list[Home]()

    def home(self, name: str, kind: str = "water", seed: int = 0, prefix: Sequence[str] = (), **options: Any) -> Home:
        text = write_text(self.folder / f"{name}-text", kind, seed)
        defaults: dict[str, Any] = {
            "name": name,
            "data": (str(text),),
            "model": str(self.model),
            "listen": ("/ip4/127.0.0.1/tcp/0",),
            "threads": 1,
            "precision": "fp32",
            "twin": "off",  # what a clock says of tiny models decides nothing here
            "context": 32,
            "batch_size": 2,
            "steps_per_round": 2,
            "warmup_rounds": 1,
            "collect_seconds": 4.0,
            "patience": 1000,
        }
        home = Home(self.folder / name, Config(**{**defaults, **options}), prefix)
        self.homes.append(home)
        return home


@pytest.fixture(scope="session")
def tiny_model() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="peerd-model-"))
    yield make_model(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def town(tiny_model: Path) -> Iterator[Town]:
    folder = Path(tempfile.mkdtemp(prefix="peerd-"))  # short, since a socket's path has to be
    found = Town(folder, tiny_model)
    yield found
    for home in found.homes:
        home.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def alice(town: Town) -> Home:
    home = town.home("alice", "water", seed=1).start()
    home.ready()
    return home


@pytest.fixture(scope="module")
def bob(town: Town, alice: Home) -> Home:
    return town.home("bob", "water", seed=2, peer=tuple(alice.ready().addresses)).start()
