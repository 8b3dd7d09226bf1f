"""The demo's child processes: one bootstrap node and the daemons. Whatever happens, none of them outlives the demo."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from p2pfinetune.system import interpreter
from peerd.errors import PeerdError
from peerd.machine.orphans import die_with_parent

STOP_SECONDS = 15.0  # what a daemon promises for a clean stop
START_SECONDS = 60.0  # an import of libp2p on a busy small machine takes some seconds


@dataclass(frozen=True, slots=True)
class DemoProcess:
    """A running process and where it writes what it has to say."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_words(self, lines: int = 15) -> str:
        """The end of its log, for a person who wants to know why it died."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


async def spawn(name: str, arguments: list[str], log: Path, *, keep: bool) -> DemoProcess:
    """Start `python -m ...` in its own session, so that Ctrl-C reaches the demo alone, which then stops it in order.

    What it prints goes to `<log>.out`, what it complains of to `log`.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as err, printed(log).open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *interpreter.command("-m", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=None if keep else partial(die_with_parent, signal.SIGTERM),  # by itself, in order
            cwd=interpreter.FOLDER,
            env={**interpreter.environment(os.environ), "PYTHONUNBUFFERED": "1"},
        )
    return DemoProcess(name, process, log)


def printed(log: Path) -> Path:
    """Where a child's standard output goes."""
    return log.with_suffix(".out")


async def bootstrap_address(child: DemoProcess) -> str:
    """What the bootstrap node says of itself: the loopback multiaddr from its JSON document."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while asyncio.get_running_loop().time() < deadline and child.process.returncode is None:
        lines = printed(child.log).read_text().splitlines()
        if lines and lines[0].endswith("}"):
            addresses: list[str] = json.loads(lines[0])["data"]["addresses"]
            return next((a for a in addresses if "/127.0.0.1/" in a), addresses[0])
        await asyncio.sleep(0.1)
    raise PeerdError(f"the bootstrap node did not start:\n{child.last_words()}")


async def stop(child: DemoProcess) -> None:
    """SIGTERM, then SIGKILL of its whole session when it does not listen."""
    if child.process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        child.process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(child.process.wait(), STOP_SECONDS + 3)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        await child.process.wait()


@contextlib.asynccontextmanager
async def stopping(children: list[DemoProcess], *, keep: list[bool]) -> AsyncIterator[None]:
    """Stop every child at the end, side by side; `keep[0]` set to True inside leaves them running."""
    try:
        yield
    finally:
        if not keep[0]:
            await end(children)


async def end(children: list[DemoProcess]) -> None:
    """All of them, side by side; those that have ended already are left."""
    async with asyncio.TaskGroup() as tasks:
        for child in children:
            tasks.create_task(stop(child), name=f"stop {child.name}")
