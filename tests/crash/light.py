"""A whole daemon that starts in milliseconds, to be killed hundreds of times: `python light.py` is the place it is forked from.

Real: shell, core, performer, journal, store, blobs, lock, identity, settings file and control socket. Not real: the worker does its jobs
in the same process, by a stand-in whose results follow from the round alone unless a model is given; and the network is
the one in memory, whose other nodes live in this process, too. What is spoken is written down outside the home.

One JSON document a line comes in (see `Order`), one with the exit status goes out when that life has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))  # this is started as a file
from p2pfinetune.names import Digest
from peerd.config import Config
from peerd.config_file import write_config
from peerd.core.events import BanLifted
from peerd.daemon import shell
from peerd.daemon.assembly import Daemon
from peerd.daemon.ports import Ports
from peerd.errors import StoreError
from peerd.machine import faults
from peerd.machine.lock import hold
from peerd.machine.paths import Paths
from peerd.net.transport import Connected, Found
from peerd.testing.network import MemoryNetwork, MemoryTransport
from peerd.testing.store import MemoryBlobs
from peerd.wire.envelope import open_announcement, seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement
from peerd.worker import supervisor
from peerd.worker.jobs import Jobs
from peerd.worker.messages import Close, Closed
from tests.support.learning import FakeLearning

MAX_SECONDS = 60.0


class Order(msgspec.Struct, kw_only=True):
    """One life of a daemon."""

    home: str
    fault: str = ""
    rounds: int = 3
    far: bool = False
    """The scratch folder is on another file system."""
    total_steps: int = 0
    model: str = ""
    """The real worker's jobs with this model; empty: the stand-in."""
    company: bool = False
    """A friend and a liar are on the network."""
    kill_after: float = 0.0
    """Seconds; 0: never."""


class NearLife:
    """`peerd.worker.process.Life` with the worker in the same process."""

    pid, working_on, signs, died_doing = 0, None, 0, None

    jobs = FakeLearning

    def __init__(self):
        self.ended = asyncio.Event()
        self._jobs = self.jobs(lambda quick: None, lambda progress: None)

    @classmethod
    async def begin(cls, command, environment):
        return cls()

    async def run(self):
        await self.ended.wait()
        return "ended"

    async def call(self, job, on_progress=None):
        await asyncio.sleep(0)
        if isinstance(job, Close):
            self.kill()
            return Closed(id=job.id)
        return self._jobs.perform(job)

    def kill(self):
        self.ended.set()


class Speaking(MemoryTransport):
    """Writes down every announcement of its own that it spreads."""

    spoken: Path

    async def publish(self, message):
        told = open_announcement(message)
        line = json.dumps([told.epoch, told.sequence, told.round, told.blob]) + "\n"
        with self.spoken.open("ab", buffering=0) as file:
            file.write(line.encode())
        return await super().publish(message)


class Neighbour:
    """Another node that says one thing to everybody who comes: where its blob is, which may be no update at all."""

    def __init__(self, wires, number, network, content, nonsense):
        self.nonsense = nonsense
        self.key, self.blobs = PeerKey(bytes([number]) * 32), MemoryBlobs()
        digest = self.blobs.put(content)
        if nonsense:
            self.blobs._blobs[digest] = bytes(len(content))  # not what it announces
        self.node = wires.node(self.key.peer_id, self.blobs, network)
        self.envelope = seal(
            self.key,
            Announcement(
                network=network,
                peer=self.key.peer_id,
                epoch=1,
                sequence=int(time.time() * 1000),
                time=int(time.time()),
                round=1,
                codec="bf16",
                size=len(content),
                blob=digest,
                name="",
                addresses=(self.node.address,),
            ),
        )

    async def run(self, found):
        await self.node.start()
        found(Found(self.key.peer_id, (self.node.address,), "test"))
        async for event in self.node.events():
            if isinstance(event, Connected):
                await self.node.publish(self.envelope)
                while self.nonsense:
                    self.nonsense -= 1
                    await self.node.publish(f"nonsense {self.nonsense}".encode())


async def live(order: Order) -> None:
    supervisor.Life = NearLife
    shell.TICK_SECONDS = 0.05
    paths = Paths.of(Path(order.home))
    config = Config(
        data=(str(paths.home.parent / "text"),),
        rounds=order.rounds,
        total_steps=order.total_steps,
        steps_per_round=2,
        warmup_rounds=0,
        collect_seconds=0.3 if order.company else 5.0,
        patience=1000,
        **(
            {"model": order.model, "threads": 1, "precision": "fp32", "twin": "on", "context": 32, "batch_size": 2}
            if order.model
            else {}
        ),
    )
    if order.model:
        NearLife.jobs = Jobs
    paths.prepare()
    write_config(paths.config, config)
    if order.far:
        keep_apart(paths)
    Speaking.spoken = paths.home.with_suffix(".spoken")
    wires, ready = MemoryNetwork(), asyncio.Event()
    ports = Ports(
        transport=lambda key, network, shelf, _: Speaking(wires, key.peer_id, shelf, network),
        prepare=lambda: None,
        worker=list,
        signals=False,
    )
    with hold(paths.lock, version="test", socket=paths.socket):
        daemon = Daemon(paths, config, lambda _: ready.set(), ports)
        daemon._journal._pauses = supervisor.Backoff(first=0.01)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(daemon.run())
            others = []
            if order.company:
                await ready.wait()
                network = Digest(daemon._performer.network_digest)
                friend, liar = Neighbour(wires, 1, network, b"8.0", 0), Neighbour(wires, 2, network, b"lie", 6)
                others = [tasks.create_task(other.run(daemon._found)) for other in (friend, liar)]
                await until(daemon, lambda: daemon.status().banned)
                await daemon._shell.tell(BanLifted(at=daemon._clock(), peer=liar.key.peer_id))
                await until(daemon, lambda: not daemon.status().banned)
            await until(daemon, lambda: daemon.status().state == "resting")
            daemon._ending.begin("the rounds are done")
            for other in others:
                other.cancel()


async def until(daemon, is_so):
    changes = daemon._shell.changes()
    while not is_so():
        await anext(changes)
    await changes.aclose()


def keep_apart(paths):
    really = Path.replace

    def replace(path, target):
        if path.parent == paths.scratch:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return really(path, target)

    Path.replace = replace


def child(order: Order) -> None:
    faults.arm({faults.VARIABLE: order.fault})
    output = os.open(Path(order.home).with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    signal.alarm(int(MAX_SECONDS))
    try:
        asyncio.run(live(order))
    except* StoreError as group:
        sys.stderr.write(f"{group.exceptions}\n")
        os._exit(1)
    os._exit(0)


def wait(pid: int, seconds: float) -> int:
    """The exit status; killed after so many seconds where that is not zero."""
    deadline = time.monotonic() + seconds
    while seconds:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            break
        time.sleep(0.0005)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def warm_up() -> None:
    """One life in this very process, so that whatever is imported late is there before a fork."""
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:
        asyncio.run(live(Order(home=f"{folder}/home", rounds=1)))
    if sys.argv[1:] == ["torch"]:
        import torch
        from peft import get_peft_model
        from transformers import AutoModelForCausalLM

        from p2pfinetune.round import learner

        torch.set_num_threads(1)
        assert learner
        assert get_peft_model
        assert AutoModelForCausalLM


def main() -> None:
    warm_up()
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        if (pid := os.fork()) == 0:
            try:
                child(order)
            finally:
                import traceback

                traceback.print_exc()
                os._exit(70)
        sys.stdout.write(f"{wait(pid, order.kill_after)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
