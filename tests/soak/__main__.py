"""Ten daemons for some minutes, with everything going wrong. `python -m tests.soak --minutes 20` (`make soak`).

Fails when an honest peer goes a minute without a finished round, grows, ends by itself, or does not stop as promised.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from tests.linkfaults.hosts import Hosts, missing
from tests.soak.longer import run_all
from tests.soak.report import as_text
from tests.soak.schedule import START_SECONDS, Fault, schedule
from tests.soak.verdict import faults_of
from tests.soak.world import World

LOOK_SECONDS = 2.0


def main() -> int:
    """0: all was well. 1: something was not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--peers", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=Path("reports/soak"))
    parser.add_argument("--network-only", action="store_true", help="leave out fuzzing, random kills and floods")
    parser.add_argument("--keep", action="store_true", help="keep the homes and logs")
    given = parser.parse_args()
    why_not = missing()
    if why_not:
        print(f"no cuts, partitions or slow links in this run: {why_not}", flush=True)
    with contextlib.nullcontext() if why_not else Hosts(given.peers + 2) as hosts:
        return soak(given, hosts, why_not)


def soak(given: argparse.Namespace, hosts: Hosts | None, why_not: str) -> int:
    """One run."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))  # short, since a socket's path has to be
    world = World(folder, given.peers, given.seed, hosts)
    plan = schedule(given.seed, given.minutes * 60.0, given.peers)
    try:
        told, lasted = asyncio.run(run(world, plan, given.minutes * 60.0))
    finally:
        ended = time.monotonic()
        world.finish(given.minutes * 60.0)
    found = [sentence for peer in world.peers for sentence in faults_of(peer.life, lasted, START_SECONDS)]
    found += [sentence for peer in world.peers for sentence in peer.trouble]
    found += [f"{p.life.name}: {n} tracebacks in its log" for p in world.peers if (n := p.tracebacks())]
    stopping = time.monotonic() - ended
    given.report.mkdir(parents=True, exist_ok=True)
    outcomes = [] if given.network_only else run_all(given.minutes, given.seed, given.report)
    found += [f"{outcome.name}: ended with {outcome.code}" for outcome in outcomes if outcome.code]
    text = as_text(world.peers, told, found, lasted, stopping, why_not, outcomes)
    (given.report / "report.md").write_text(text)
    (given.report / "lives.json").write_text(json.dumps([msgspec.to_builtins(peer.life) for peer in world.peers]))
    for peer in world.peers:
        shutil.copy2(folder / f"{peer.paths.home.name}.log", given.report / f"{peer.life.name}.log")
    print(text)
    if not given.keep:
        shutil.rmtree(folder)
    return 1 if found else 0


async def run(world: World, plan: list[Fault], seconds: float) -> tuple[list[str], float]:
    """Through the plan; what was done, and how long it took."""
    began = time.monotonic()
    for peer in world.peers:
        peer.start(0.0)
    told: list[str] = []
    beginning, ending = list(plan), sorted(plan, key=lambda fault: fault.until)
    while (at := time.monotonic() - began) < seconds:
        while ending and ending[0].until <= at and ending[0] not in beginning:
            world.end(ending.pop(0), at)
        while beginning and beginning[0].at <= at:
            fault = beginning.pop(0)
            detail = world.begin(fault, at)
            told.append(say(at, fault, detail))
        await world.look(at)
        await asyncio.sleep(LOOK_SECONDS)
    return told, at


def say(at: float, fault: Fault, detail: str) -> str:
    """A line of progress, and of the report."""
    who = ", ".join(f"peer{place}" for place in fault.who) if len(fault.who) < 8 else "everybody"
    line = f"{at:5.0f} s  {fault.kind:<15} {who} {detail} for {fault.seconds:.0f} s".replace("  for", " for")
    print(line, flush=True)
    return line


if __name__ == "__main__":
    sys.exit(main())
