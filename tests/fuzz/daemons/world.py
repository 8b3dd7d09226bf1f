"""The daemons of a run, what is done to them, and whether all was as promised."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.machine.orphans import die_with_parent
from tests.soak.peer import Peer
from tests.soak.verdict import RECOVERY_SECONDS

MEETING_SECONDS = 60.0  # at most, after a start, until everybody has met everybody
OPTIONS = {
    "group": "fuzz",
    "twin": "off",
    "steps_per_round": 2,
    "warmup_rounds": 1,
    "collect_seconds": 1.0,
    "patience": 1_000_000,
}


@dataclass(frozen=True, slots=True)
class Event:
    """A line of a daemon's file."""

    at: float
    what: str
    peer: str
    why: str


@dataclass(slots=True)
class Member:
    """One daemon and what its part is."""

    peer: Peer
    events_file: Path
    injected: bool
    restarted: bool
    id: str = ""

    @property
    def name(self) -> str:
        return self.peer.life.name

    def events(self) -> list[Event]:
        if not self.events_file.exists():
            return []
        lines = self.events_file.read_text().splitlines()
        return [Event(**json.loads(line)) for line in lines if line.endswith("}")]


class Honest(Peer):
    """Started as a daemon with a worker that learns nothing."""

    def __init__(self, name: str, home: Path, config: Config, events: Path, options: Sequence[str]) -> None:
        super().__init__(name, [], home, config)
        self._command = [sys.executable, "-m", "tests.fuzz.daemons.honest", str(home), str(events), *options]

    def command(self) -> list[str]:
        return self._command


class World:
    """`plain` daemons that nothing may happen to, and one that is restarted, and some in which exceptions are laid."""

    def __init__(self, folder: Path, seed: int, plain: int, restarted: int, injected: int) -> None:
        self.folder, self.seed, self.dice = folder, seed, random.Random(f"world {seed}")
        (folder / "text").mkdir()
        (folder / "text" / "a.txt").write_text("text\n")
        self.bootstrap_out = folder / "bootstrap.out"
        command = [*interpreter.command("-m", "bootstrap"), "start", "--json", "--listen", "/ip4/127.0.0.1/tcp/0"]
        self.bootstrap = self._run("bootstrap", [*command, "--home", str(folder / "bootstrap")])
        self.bootstrap_address = self._first_address()
        kinds = ["plain"] * plain + ["restarted"] * restarted + ["injected"] * injected
        self.members = [self._member(number, kind) for number, kind in enumerate(kinds)]
        self.stranger: subprocess.Popen[bytes] | None = None
        self.trouble: list[str] = []

    def _run(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("ab") as out, (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=out, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509

    def _first_address(self) -> str:
        while self.bootstrap.poll() is None:
            lines = self.bootstrap_out.read_text().splitlines()
            if lines and lines[0].endswith("}"):
                return str(json.loads(lines[0])["data"]["addresses"][0])
            try:
                self.bootstrap.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise SystemExit(f"the bootstrap node did not start:\n{(self.folder / 'bootstrap.log').read_text()[-2000:]}")

    def _member(self, number: int, kind: str) -> Member:
        name = f"{kind}{number}"
        events = self.folder / f"{name}.events"
        config = Config(
            name=name,
            data=(str(self.folder / "text"),),
            listen=("/ip4/127.0.0.1/tcp/0",),
            bootstrap=(self.bootstrap_address,),
            **OPTIONS,  # type: ignore[arg-type]
        )
        options = ["--inject", str(self.seed + number)] if kind == "injected" else []
        peer = Honest(name, self.folder / name, config, events, options)
        return Member(peer, events, kind == "injected", kind == "restarted")

    def attack(self, seconds: float) -> None:
        """From now on."""
        statuses = [member.peer.status for member in self.members if member.peer.status is not None]
        for member in self.members:
            if member.peer.status is not None:
                member.id = member.peer.status.peer_id
        plan = {
            "targets": [status.addresses[0] for status in statuses if status.addresses],
            "bootstrap": self.bootstrap_address,
            "network": next(str(status.network) for status in statuses if status.network),
            "seed": self.seed,
            "seconds": seconds,
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))
        self.stranger = self._run(
            "stranger", [sys.executable, "-m", "tests.fuzz.daemons.stranger", str(self.folder / "plan.json")]
        )

    @property
    def attacked(self) -> bool:
        """Whether the stranger has done something, or never will."""
        return bool(self.done()) or self.stranger is None or self.stranger.poll() is not None

    def done(self) -> Counter[str]:
        """What the stranger did, by stage."""
        file = self.folder / "stranger.out"
        lines = file.read_text().splitlines() if file.exists() else []
        whole = [line for line in lines if line.endswith("}")]
        return Counter(json.loads(whole[-1])) if whole else Counter()

    def end(self, at: float) -> list[str]:
        """Stop everybody; what was wrong with that."""
        found = []
        if self.stranger is not None:
            if self.stranger.poll() not in {None, 0}:
                found.append(f"the stranger ended by a fault of its own: {tail(self.folder / 'stranger.log')}")
            self.stranger.kill()
            self.stranger.wait()
        for member in self.members:
            if member.peer.daemon() is not None:
                member.peer.stop(at)
        if self.bootstrap.poll() is not None:
            found.append(
                f"the bootstrap node ended with {self.bootstrap.poll()}: {tail(self.folder / 'bootstrap.log')}"
            )
        self.bootstrap.terminate()
        self.bootstrap.wait(20)
        return found


def lost(members: Iterable[Member], stopped: float) -> list[str]:
    """Connections between two daemons that nothing was done to, that came to an end; and networks that did.

    `stopped`: when all were told to end, by the monotonic clock that all processes of a machine share.
    """
    members = list(members)
    plain = {member.id: member.name for member in members if not (member.injected or member.restarted) and member.id}
    found = []
    for member in members:
        if member.injected:
            continue
        for event in member.events():
            if event.at >= stopped:
                break
            if event.what == "down":
                found.append(f"{member.name}: the network ended: {event.why}")
            if event.what == "disconnected" and event.peer in plain and member.id in plain:
                found.append(f"{member.name}: the connection to {plain[event.peer]} was lost, {event.at:.1f}")
    return found


def strangers_in(members: Iterable[Member]) -> list[str]:
    """Honest daemons that were banned by another, as the last looks saw it."""
    members = list(members)
    names = {member.id: member.name for member in members if member.id}
    return [
        f"{member.name}: bans {names[ban.peer_id]} for {ban.reason}"
        for member in members
        if member.peer.status is not None
        for ban in member.peer.status.banned
        if ban.peer_id in names
    ]


def tail(path: Path, characters: int = 600) -> str:
    """The end of a file."""
    return path.read_text(errors="replace")[-characters:].strip() if path.exists() else ""


__all__ = ["MEETING_SECONDS", "RECOVERY_SECONDS", "Member", "World", "lost", "strangers_in", "tail"]
