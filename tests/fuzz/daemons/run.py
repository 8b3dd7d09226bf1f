"""One run: start, meet, attack, restart, look, stop, judge."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.daemons.world import MEETING_SECONDS, Member, World, lost, strangers_in
from tests.soak.verdict import faults_of

LOOK_SECONDS = 2.0
AWAY_SECONDS = 3.0
RESTART_SECONDS = 40.0  # between two restarts of one daemon
SETTLING_SECONDS = 30.0  # before the end nobody is restarted: a daemon that has just begun does not know SIGTERM yet


def options(parser: argparse.ArgumentParser) -> None:
    """Of `python -m tests.fuzz daemons`."""
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", type=int, default=3, help="daemons to which nothing is done")
    parser.add_argument("--restarted", type=int, default=1)
    parser.add_argument("--injected", type=int, default=2, help="daemons in whose network exceptions are laid")
    parser.add_argument("--out", type=Path, help="keep homes, logs and events in this folder")


def main(chosen: argparse.Namespace) -> int:
    """0: all was well. 1: something was not."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))  # short, since a socket's path has to be
    world = World(folder, chosen.seed, chosen.plain, chosen.restarted, chosen.injected)
    began = time.monotonic()
    try:
        attacked = asyncio.run(go(world, chosen.minutes * 60.0, began))
    finally:
        stopped = time.monotonic()
        found = world.end(stopped - began)
    found += verdict(world, began, attacked, stopped)
    print(report(world, chosen, found))
    if chosen.out is not None:
        shutil.copytree(folder, chosen.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.sock", "*socket*"))
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0


async def go(world: World, seconds: float, began: float) -> float:
    """When the attack began, in seconds of the run."""

    def now() -> float:
        return time.monotonic() - began

    for member in world.members:
        member.peer.start(now())
    while now() < MEETING_SECONDS and not all(met(member, world) for member in world.members):
        await look(world, now())
        await asyncio.sleep(0.5)
    if not all(met(member, world) for member in world.members):
        world.trouble.append(f"not everybody had met everybody after {MEETING_SECONDS:.0f} s, so nothing was fuzzed")
        return now()
    world.attack(seconds + MEETING_SECONDS)
    beginning = now()
    while not world.attacked and now() < beginning + MEETING_SECONDS:  # noqa: ASYNC110  # it is another process
        await asyncio.sleep(0.2)
    attacked = now()
    back: dict[str, float] = {}
    due = {m.name: attacked + world.dice.random() * RESTART_SECONDS for m in world.members if m.restarted}
    while now() < attacked + seconds:
        for member in (m for m in world.members if m.restarted):
            if member.name in back and back[member.name] <= now():
                member.peer.start(now())
                del back[member.name]
            if member.name not in back and due[member.name] <= now() < attacked + seconds - SETTLING_SECONDS:
                (member.peer.kill if world.dice.random() < 0.5 else member.peer.stop)(now())
                back[member.name], due[member.name] = now() + AWAY_SECONDS, now() + RESTART_SECONDS
        await look(world, now())
        await asyncio.sleep(min(LOOK_SECONDS, max(0.1, seconds / 5)))
    for member in world.members:
        if member.name in back:
            member.peer.start(now())
    return attacked


async def look(world: World, at: float) -> None:
    """At everybody, side by side."""
    async with asyncio.TaskGroup() as tasks:
        for member in world.members:
            tasks.create_task(member.peer.look(at), name=f"look at {member.name}")


def met(member: Member, world: World) -> bool:
    """Whether it is connected with all others, and has been seen to know its network."""
    if member.peer.status is None or not member.peer.status.network:
        return False
    connected = {event.peer for event in member.events() if event.what == "connected"}
    return len(connected) >= len(world.members) - 1


def verdict(world: World, began: float, attacked: float, stopped: float) -> list[str]:
    """What was not as promised, in sentences."""
    found = [*world.trouble, *lost(world.members, stopped), *strangers_in(world.members)]
    for member in world.members:
        found += faults_of(member.peer.life, stopped - began, attacked)
        found += member.peer.trouble
        if not member.injected and (count := member.peer.tracebacks()):
            found.append(f"{member.name}: {count} tracebacks in its log\n{member.peer.last_words(30)}")
    if not world.done():
        found.append("the stranger did nothing")
    return found


def report(world: World, chosen: argparse.Namespace, found: list[str]) -> str:
    """What to print at the end."""
    rounds = {m.name: m.peer.life.seen[-1].rounds if m.peer.life.seen else 0 for m in world.members}
    injected = Counter(e.why.partition(":")[0] for m in world.members for e in m.events() if e.what == "injected")
    turned: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for member in world.members:
        if member.peer.status is not None:
            turned.update(member.peer.status.turned_away)
            refused.update(member.peer.status.refused)
    lines = [
        f"fuzzed {len(world.members)} daemons for {chosen.minutes:g} minutes, seed {chosen.seed}",
        "the stranger: " + told(world.done()),
        f"exceptions laid and stepped on: {injected.total()}, in {len(injected)} places",
        "turned away, since each one's last start: " + told(turned),
        "refused: " + told(refused),
        "rounds: " + told(Counter(rounds)),
        "",
        *([f"{len(found)} faults:", *(f"- {sentence}" for sentence in found)] if found else ["no faults"]),
    ]
    return "\n".join(lines)


def told(counts: Counter[str]) -> str:
    """Each with its count."""
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items())) or "nothing"


if __name__ == "__main__":
    given = argparse.ArgumentParser()
    options(given)
    sys.exit(main(given.parse_args()))
