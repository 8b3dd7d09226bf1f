"""The network of a soak run: hosts, a bootstrap node, honest daemons, attackers; and what can be done to them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from p2pfinetune.names import Digest
from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.machine.orphans import die_with_parent
from tests.linkfaults.hosts import Hosts
from tests.soak.peer import Peer
from tests.soak.schedule import Fault
from tests.support.models import make_model
from tests.support.texts import write_text

PORT = 4001
KINDS = ("water", "stone")
BOOTSTRAP, HOSTILE, FIRST = 1, 2, 3  # hosts: the bootstrap node, whoever attacks, the first honest peer
SLOW = "512kbit"
OPTIONS: Mapping[str, object] = {
    "threads": 1,
    "precision": "fp32",
    "twin": "off",
    "context": 32,
    "batch_size": 2,
    "steps_per_round": 10,
    "warmup_rounds": 1,
    "collect_seconds": 10.0,
    "patience": 1_000_000,
    "trust_tokens": 512,
    "guard_tokens": 1024,
}


class World:
    """Ten daemons, say, each on a host of its own where hosts can be made."""

    def __init__(self, folder: Path, peers: int, seed: int, hosts: Hosts | None) -> None:
        """`hosts`: peers and two more; None: all on loopback, and links cannot be cut."""
        self._folder, self._hosts, self._dice = folder, hosts, random.Random(f"world {seed}")
        self._attackers: dict[Fault, subprocess.Popen[bytes]] = {}
        model = make_model(folder / "model")
        self._bootstrap: subprocess.Popen[bytes] | None = None
        self._bootstrap_home = folder / "bootstrap"
        self.bootstrap_address = self.start_bootstrap()
        self.peers = [self._peer(number, model) for number in range(peers)]
        self.attacks_made = 0

    def _inside(self, host: int, command: list[str]) -> list[str]:
        return command if self._hosts is None else [*self._hosts.command(host), *command]

    def _listen(self, host: int, port: int) -> str:
        if self._hosts is None:
            return "/ip4/127.0.0.1/tcp/0"
        return f"/ip4/{self._hosts.address(host)}/tcp/{port}"

    def _peer(self, number: int, model: Path) -> Peer:
        host = FIRST + number
        text = write_text(self._folder / f"text{number}", KINDS[number % len(KINDS)], number)
        config = Config(
            name=f"peer{number}",
            data=(str(text),),
            model=str(model),
            listen=(self._listen(host, PORT),),
            bootstrap=(self.bootstrap_address,),
            **OPTIONS,  # type: ignore[arg-type]
        )
        return Peer(f"peer{number}", self._inside(host, []), self._folder / f"p{number}", config)

    def start_bootstrap(self) -> str:
        """Its address."""
        out = self._folder / "bootstrap.out"
        out.unlink(missing_ok=True)
        command = [*interpreter.command("-m", "bootstrap"), "start", "--listen", self._listen(BOOTSTRAP, PORT)]
        command += ["--home", str(self._bootstrap_home), "--json"]
        with out.open("ab") as printed, (self._folder / "bootstrap.log").open("ab") as log:
            self._bootstrap = subprocess.Popen(
                self._inside(BOOTSTRAP, command),
                stdout=printed,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        return self._address_in(out)

    def _address_in(self, out: Path) -> str:
        assert self._bootstrap is not None
        while self._bootstrap.poll() is None:
            lines = out.read_text().splitlines()
            if lines and lines[0].endswith("}"):
                found: str = json.loads(lines[0])["data"]["addresses"][0]
                return found
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._bootstrap.wait(0.1)
        raise SystemExit(f"the bootstrap node did not start:\n{(self._folder / 'bootstrap.log').read_text()[-2000:]}")

    def begin(self, fault: Fault, at: float) -> str:  # one line for each kind
        """Do it; what to say of it beyond its kind."""
        victims = [self.peers[place] for place in fault.who]
        match fault.kind:
            case "kill" | "damage":
                victims[0].kill(at)
                if fault.kind == "damage":
                    return victims[0].damage(self._dice)
            case "restart":
                victims[0].stop(at)
            case "kill-worker":
                victims[0].kill_worker()
            case "suspend":
                victims[0].suspend(at)
            case "hang-worker":
                victims[0].hang_worker(at)
            case "cut" | "outage" | "shape" | "partition":
                self._links(fault, whole=False)
            case "bootstrap-away":
                self._end_bootstrap()
            case "poison" | "attack":
                return self._attack(fault, victims)
        return ""

    def end(self, fault: Fault, at: float) -> None:
        """The machine, the link or the node is back."""
        victims = [self.peers[place] for place in fault.who]
        match fault.kind:
            case "kill" | "restart" | "damage":
                victims[0].start(at)
            case "suspend" | "hang-worker":
                victims[0].go_on(at)
            case "cut" | "outage" | "shape" | "partition":
                self._links(fault, whole=True)
            case "bootstrap-away":
                self.start_bootstrap()
            case "poison" | "attack":
                attacker = self._attackers.pop(fault, None)
                if attacker is not None:
                    attacker.kill()
                    attacker.wait()

    def _links(self, fault: Fault, *, whole: bool) -> None:
        if self._hosts is None:
            return
        if fault.kind == "partition":
            self._hosts.trunk(up=whole)
        for place in fault.who:
            if fault.kind == "shape":
                self._hosts.shape(FIRST + place, None if whole else SLOW)
            elif fault.kind != "partition":
                self._hosts.link(FIRST + place, up=whole)

    def _attack(self, fault: Fault, victims: list[Peer]) -> str:
        statuses = [peer.status for peer in (victims or self.peers) if peer.status is not None]
        network = next((status.network for status in statuses if status.network), None)
        address = next((address for status in statuses for address in status.addresses), None)
        if network is None or address is None:
            return "nobody to attack yet"
        self.attacks_made += 1
        if fault.kind == "poison":
            command = ["tests.soak.poisoner", fault.how, Digest(network), self.bootstrap_address]
            command += ["--folder", str(self._folder / f"attacker{self.attacks_made}")]
            command += ["--listen", self._listen(HOSTILE, 0)]
        else:
            command = ["tests.attackers", fault.how, address, "--network", str(network)]
        command += ["--seconds", str(fault.seconds)]
        with (self._folder / "attackers.log").open("ab") as log:
            self._attackers[fault] = subprocess.Popen(
                self._inside(HOSTILE, [sys.executable, "-m", *command]),
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509
            )
        return fault.how

    def _end_bootstrap(self) -> None:
        if self._bootstrap is not None:
            self._bootstrap.kill()
            self._bootstrap.wait()

    async def look(self, at: float) -> None:
        """At everybody, side by side."""
        async with asyncio.TaskGroup() as tasks:
            for peer in self.peers:
                tasks.create_task(peer.look(at), name=f"look at {peer.life.name}")

    def finish(self, at: float) -> None:
        """Stop everybody in order."""
        for fault in list(self._attackers):
            self.end(fault, at)
        for peer in self.peers:
            if peer.daemon() is not None:
                peer.stop(at)
        self._end_bootstrap()
