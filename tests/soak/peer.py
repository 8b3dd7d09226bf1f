"""One honest daemon of a soak run: started, watched, and maltreated."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import msgspec
import psutil

from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.config_file import write_config
from peerd.control.client import AsyncClient
from peerd.errors import NotHealthy, PeerdError
from peerd.machine.orphans import die_with_parent
from peerd.machine.paths import Paths
from peerd.status import Status
from tests.soak.verdict import Life, Seen

STOP_SECONDS = 15.0  # what a daemon promises


class Peer:
    """Its life is what the verdict is about."""

    def __init__(self, name: str, where: list[str], home: Path, config: Config) -> None:
        self.life = Life(name)
        self.status: Status | None = None
        self.trouble: list[str] = []
        """What it did that it must not do."""
        self.starts = 0
        self._where, self._home, self.paths = where, home, Paths.of(home)
        self._log = home.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._away_since: float | None = None
        self._suspended: list[int] = []
        self.paths.prepare()
        write_config(self.paths.config, config)

    def start(self, at: float) -> None:
        """Also after it was killed or stopped."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._where, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        self.starts += 1
        self._back(at)

    def command(self) -> list[str]:
        """What is started."""
        return [*interpreter.command("-m", "peerd"), "start", "--home", str(self._home)]

    def kill(self, at: float) -> None:
        """As a power cut does: the daemon and its worker, nothing is told."""
        self._gone(at)
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process is not None:
            self._process.wait(30)

    def stop(self, at: float) -> None:
        """In order; it has promised to take fifteen seconds at most and to leave nothing behind."""
        self._gone(at)
        assert self._process is not None
        tree, began = self._tree(), time.monotonic()
        self._signal(signal.SIGTERM)
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.trouble.append(f"{self.life.name}: did not end within a minute of SIGTERM")
            self.kill(at)
            return
        seconds = time.monotonic() - began
        if seconds > STOP_SECONDS:
            self.trouble.append(f"{self.life.name}: took {seconds:.0f} s to stop")
        if code != 0:
            self.trouble.append(f"{self.life.name}: stopped with exit code {code}")
        left = [process.pid for process in tree if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        if left or self.paths.socket.exists():
            self.trouble.append(f"{self.life.name}: left {left or self.paths.socket} behind")

    def suspend(self, at: float) -> None:
        """The daemon and its worker, as a laptop's lid does."""
        self._gone(at)
        self._suspended = [process.pid for process in self._tree()]
        for pid in self._suspended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def go_on(self, at: float) -> None:
        """After `suspend` and after `hang_worker`."""
        for pid in self._suspended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._back(at)

    def hang_worker(self, at: float) -> None:
        """The worker alone stops doing anything."""
        self._gone(at)
        worker = self.worker()
        self._suspended = [worker.pid] if worker is not None else []
        if worker is not None:
            worker.suspend()

    def kill_worker(self) -> None:
        """As the kernel does for lack of memory."""
        worker = self.worker()
        if worker is not None:
            worker.kill()

    def damage(self, dice: random.Random) -> str:
        """Overwrite 200 bytes at offset 150 of a file of the home, while it is down; the name of the file."""
        files = [path for path in (self.paths.database, *sorted((self._home / "blobs").glob("*"))) if path.is_file()]
        victim = dice.choice(files)
        with victim.open("r+b") as file:
            file.seek(150)
            file.write(dice.randbytes(200))
        return victim.name[:12]

    async def look(self, at: float) -> None:
        """Add what is to be seen now."""
        daemon, worker = self.daemon(), self.worker()
        try:
            async with AsyncClient(home=self._home) as client:
                self.status = await client.status()
            answers = True
        except (PeerdError, NotHealthy, OSError, msgspec.MsgspecError):
            answers = False
        ended = self._process is not None and self._process.poll() is not None
        if ended and self._away_since is None and self._process is not None:
            self.trouble.append(
                f"{self.life.name}: ended by itself with {self._process.returncode}\n{self.last_words()}"
            )
            self.start(at)
        self.life.seen.append(
            Seen(
                at=at,
                rounds=self.status.round if self.status is not None else 0,
                pid=daemon.pid if daemon is not None else 0,
                rss=_size(daemon),
                worker=worker.pid if worker is not None else 0,
                worker_rss=_size(worker),
                descriptors=_descriptors(daemon),
                disk=bytes_in(self._home),
                answers=answers and daemon is not None,
            )
        )

    def daemon(self) -> psutil.Process | None:
        """None while it does not run. `nsenter` becomes the daemon, so the process started is the one."""
        if self._process is None or self._process.poll() is not None:
            return None
        return psutil.Process(self._process.pid)

    def worker(self) -> psutil.Process | None:
        """The child that owns torch."""
        daemon = self.daemon()
        try:
            children = daemon.children() if daemon is not None else []
        except psutil.NoSuchProcess:
            return None
        return max(children, key=_size, default=None)

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:]) if self._log.exists() else ""

    def tracebacks(self) -> int:
        """In its log: an error nobody foresaw."""
        return self._log.read_text(errors="replace").count("Traceback") if self._log.exists() else 0

    def _tree(self) -> list[psutil.Process]:
        daemon = self.daemon()
        try:
            return [daemon, *daemon.children(recursive=True)] if daemon is not None else []
        except psutil.NoSuchProcess:
            return []

    def _signal(self, number: int) -> None:
        daemon = self.daemon()
        if daemon is not None:
            daemon.send_signal(number)

    def _gone(self, at: float) -> None:
        if self._away_since is None:
            self._away_since = at

    def _back(self, at: float) -> None:
        if self._away_since is not None:
            self.life.away.append((self._away_since, at))
            self._away_since = None


def bytes_in(folder: Path) -> int:
    """Of all files; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def _size(process: psutil.Process | None) -> int:
    try:
        return int(process.memory_info().rss) if process is not None else 0
    except psutil.NoSuchProcess:
        return 0


def _descriptors(process: psutil.Process | None) -> int:
    try:
        return int(process.num_fds()) if process is not None else 0
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0
