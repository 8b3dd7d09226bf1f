"""One honest daemon: everything real but the worker, which adds and averages numbers in the daemon's own process.

    python -m tests.fuzz.daemons.honest HOME EVENTS [--inject SEED]

What happens to its connections goes to the file EVENTS, one JSON document a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
import traceback
from pathlib import Path

import uvloop

from peerd.config_file import read_config
from peerd.daemon import assembly as daemon
from peerd.daemon.ports import Ports
from peerd.errors import PeerdError
from peerd.machine.paths import Paths
from peerd.net.libp2p.guard import Guard
from peerd.net.libp2p.muxer import GuardedYamux
from peerd.net.libp2p.transport import Libp2pTransport
from peerd.net.transport import Connected, Disconnected, Down
from peerd.worker import supervisor
from peerd.worker.messages import TrainSteps
from tests.crash.light import NearLife
from tests.fuzz.daemons.inject import Injector

TRAIN_SECONDS = 0.5
GOAL = 10.0


class Steady(NearLife.jobs):
    """Comes near its goal and stays there."""

    def on_TrainSteps(self, job: TrainSteps):
        self.value = min(self.value, GOAL - 1.0)
        return super().on_TrainSteps(job)

    @staticmethod
    def read(path):
        """As the real worker, it takes no more from a peer than what it knows."""
        try:
            value = json.loads(Path(path).read_text())
        except ValueError:
            return None
        return float(value) if isinstance(value, float) and math.isfinite(value) else None


class CalmLife(NearLife):
    """Training takes a while, or it would be all that this machine does."""

    jobs = Steady

    async def call(self, job, on_progress=None):
        if isinstance(job, TrainSteps):
            await asyncio.sleep(TRAIN_SECONDS)
        return await super().call(job, on_progress)


class Watched(Libp2pTransport):
    """Writes down what happens to its connections."""

    record: int

    async def start(self):
        addresses = await super().start()
        self._say("up", "", addresses[0])
        return addresses

    async def events(self):
        async for event in super().events():
            match event:
                case Connected(peer):
                    self._say("connected", peer)
                case Disconnected(peer):
                    self._say("disconnected", peer)
                case Down(reason):
                    self._say("down", "", reason)
            yield event

    def _say(self, what: str, peer: str, why: str = "") -> None:
        line = json.dumps({"at": time.monotonic(), "what": what, "peer": peer, "why": why}) + "\n"
        os.write(self.record, line.encode())


def _watch_guard() -> None:
    """What the guard turns away is written down, too."""
    original = Guard.turned_away

    def turned_away(self, task, failure):
        where = "".join(traceback.format_exception(failure))[-2000:]
        line = json.dumps({"at": time.monotonic(), "what": "guarded", "peer": "", "why": f"{task}: {where}"}) + "\n"
        os.write(Watched.record, line.encode())
        original(self, task, failure)

    Guard.turned_away = turned_away


def _watch_closes() -> None:
    """Who closes a connection: for whoever looks for the cause of a fault."""
    from libp2p.stream_muxer.yamux.yamux import Yamux

    for name in ("close", "_cleanup_on_error"):
        original = getattr(Yamux, name)

        async def closing(self, *arguments, original=original, name=name):
            stack = " < ".join(f"{f.name}:{f.lineno}" for f in reversed(traceback.extract_stack()[-9:-1]))
            told = {"at": time.monotonic(), "what": name, "peer": str(self.peer_id), "why": stack}
            os.write(Watched.record, (json.dumps(told) + "\n").encode())
            await original(self, *arguments)

        setattr(Yamux, name, closing)
    read = GuardedYamux._read_paced

    async def reading(self, size=None):
        try:
            return await read(self, size)
        except Exception as error:
            why = "".join(traceback.format_exception(error))[-3000:]
            told = {"at": time.monotonic(), "what": "read", "peer": str(self.peer_id), "why": why}
            os.write(Watched.record, (json.dumps(told) + "\n").encode())
            raise

    GuardedYamux._read_paced = reading


def main() -> int:
    """The exit code of the daemon."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("events", type=Path)
    parser.add_argument("--inject", type=int)
    chosen = parser.parse_args()
    Watched.record = os.open(chosen.events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    supervisor.Life = CalmLife
    paths = Paths.of(chosen.home)

    def transport(key, network, shelf, config):
        return Watched(key, network, shelf, listen=config.listen)

    if chosen.inject is not None:
        Injector(chosen.inject, lambda what: os.write(Watched.record, (json.dumps(what) + "\n").encode())).lay()
    _watch_guard()
    if os.environ.get("FUZZ_STACKS"):
        _watch_closes()
    ports = Ports(transport=transport, prepare=lambda: None, worker=list)
    try:
        return uvloop.run(daemon.run(paths, read_config(paths.config), ports=ports))
    except PeerdError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
