"""Training in a live daemon while it gossips with three neighbours, against a bare loop.

`python -m benchmarks.live_speed`: four real daemons with one thread each train the embedded model on text found in the
installed packages, exchange updates over libp2p and merge, while the bare loop of `benchmarks.speed` takes steps of the
same shape beside them. All share the processor, so what is compared is CPU time a token: of a worker over its stages of
training, checkpoints written and quick jobs answered included, and of the loop. The last column is what the daemon
itself, its network and its store, took beside that, as a part of the worker's time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.speed import BareLoop, text
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import folder_of, load_base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.system import interpreter
from p2pfinetune.training.trainers.adamw import AdamW
from peerd.control.client import Client
from peerd.demo.deal import deal_installed
from peerd.errors import PeerdError
from peerd.status import Status

PEERS = 4
SEQUENCES, TOKENS, STEPS = 8, 256, 8
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 300.0
LOOK_SECONDS = 0.2


@dataclass(slots=True)
class Watched:
    """One daemon: CPU seconds in its stages of training, and steps that were finished in them."""

    home: Path
    daemon: int
    in_training: float = 0.0
    beside: float = 0.0
    tokens: int = 0
    merges: int = 0
    _last: tuple[str, float, float] = ("", 0.0, 0.0)
    _rounds: set[int] = field(default_factory=set)

    def look(self) -> Status | None:
        """Note what has changed; None while nobody answers."""
        try:
            with Client(self.home) as client:
                now, rounds = client.status(), client.rounds()
        except PeerdError:
            return None
        worker = next(iter(children_of(self.daemon)), 0)
        state, used, own = now.worker.state, cpu_seconds(worker), cpu_seconds(self.daemon)
        if "training" in (self._last[0], state):  # rather too much than too little
            self.in_training += used - self._last[1]
            self.beside += own - self._last[2]
        self._last = state, used, own
        fresh = {one.round for one in rounds} - self._rounds
        if self._rounds or self.in_training:
            self.tokens += sum(one.steps for one in rounds if one.round in fresh) * SEQUENCES * TOKENS
            self.merges += sum(one.accepted for one in rounds if one.round in fresh)
        self._rounds |= fresh
        return now


def children_of(process: int) -> list[int]:
    """Processes whose parent it is."""
    with contextlib.suppress(OSError):
        return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]
    return []


def cpu_seconds(process: int) -> float:
    """Of all threads; nothing of a process that is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


@contextlib.contextmanager
def daemons(scratch: Path) -> Iterator[list[Watched]]:
    """Four that know one another; ended with the block."""
    dealt = deal_installed(PEERS, scratch / "text", 0)
    started: list[subprocess.Popen[bytes]] = []
    watched: list[Watched] = []
    try:
        for number, one in enumerate(dealt):
            home = scratch / f"home-{number}"
            known = [address for other in watched[:1] for address in addresses(other)[:1]]
            command = interpreter.command(
                "-m", "peerd", "start", "--home", str(home), "--data", str(one.folder), "--threads", "1", "--twin",
                "off", "--precision", "fp32", "--steps-per-round", str(STEPS), "--batch-size", str(SEQUENCES),
                "--context", str(TOKENS), "--listen", "/ip4/127.0.0.1/tcp/0", *(["--peer", known[0]] if known else []),
            )  # fmt: skip
            log = (scratch / f"log-{number}").open("wb")
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True))  # noqa: S603
            watched.append(Watched(home, started[-1].pid))
        yield watched
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.wait(timeout=60)


def addresses(one: Watched) -> list[str]:
    """Where it can be reached, once it is up."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        now = one.look()
        if now is not None and (found := [*now.addresses]):
            return found
        time.sleep(0.5)
    said = one.home.with_name(one.home.name.replace("home", "log")).read_text(errors="replace")
    raise SystemExit(f"a daemon did not start:\n{said[-2000:]}")


def keep_looking(watched: Sequence[Watched], seconds: float) -> None:
    """At all of them, often enough that the edges of a stage count for little."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for one in watched:
            one.look()
        time.sleep(LOOK_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="after all four have met")
    parser.add_argument("--out", type=Path, default=Path("reports/live_speed.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(1)
    options = TrainingOptions(batch_size=SEQUENCES, context=TOKENS, clip=0.0)
    base = load_base("nano", device="cpu")
    adapted = attach(base, AdapterSpec())
    blocks = AdamW().trainer(adapted, text(4096), options)
    bare = BareLoop(folder_of("nano"), adapted, options)
    bare.step(blocks)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, daemons(Path(scratch)) as watched:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and any((now := one.look()) is None or not now.neighbours for one in watched):
            time.sleep(1.0)
        looking = threading.Thread(target=keep_looking, args=(watched, 60.0 * given.minutes))
        looking.start()
        while looking.is_alive():
            start = time.thread_time()
            bare.step(blocks)
            seconds.append(time.thread_time() - start)
            time.sleep(1.0)
    loop = statistics.median(seconds) / (SEQUENCES * TOKENS)
    print(f"bare loop: {1 / loop:.0f} tokens a second of CPU time")
    print("daemon   tokens  tokens a second  of the loop's  merges  daemon's own CPU time")
    rows = []
    for number, one in enumerate(watched):
        if not one.tokens or not one.in_training:
            print(f"{number:6}   no round was finished")
            continue
        rate = one.tokens / one.in_training
        rows.append(
            {"tokens": one.tokens, "rate": rate, "ratio": rate * loop, "merges": one.merges, "beside": one.beside}
        )
        part = one.beside / one.in_training
        print(f"{number:6} {one.tokens:8} {rate:16.0f} {rate * loop:14.2f} {one.merges:7} {part:10.1%}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"bare": 1 / loop, "daemons": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
