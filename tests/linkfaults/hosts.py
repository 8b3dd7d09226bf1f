"""Hosts with links of their own on one machine: network namespaces on two bridges that a trunk joins.

No rights of root are needed beyond what a user namespace gives. The namespaces live as long as the processes that
hold them, and these end with whoever made them: they read a pipe that is closed then.

    host 1 ... -- bridge left -- trunk -- bridge right -- ... host N
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from typing import Self

NETWORK = "10.77.0"
TOOLS = ("unshare", "nsenter", "ip", "tc")


def missing() -> str:
    """Why there can be no such hosts on this machine; empty where there can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} on this machine"
    try:
        with Hosts(1):
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"no network namespaces on this machine: {said.strip()}"


class Hosts:
    """`with Hosts(4) as hosts:`; they are numbered from 1, the first half of them on the left."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._holders: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._hold(["unshare", "--user", "--map-root-user", "--net"])
            for _ in range(self.count):
                self._hold([*self._inside(0), "unshare", "--net"])
            self._wire()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """The namespaces go with the processes that hold them."""
        for holder in reversed(self._holders):
            holder.kill()
            holder.communicate(timeout=10)
        self._holders.clear()

    # --- use --------------------------------------------------------------------------------------------------------

    def address(self, host: int) -> str:
        """Of a host's only link."""
        return self.numbered(host)

    def numbered(self, number: int) -> str:
        """The address of that number, whoever has it."""
        return f"{NETWORK}.{number}"

    def move(self, host: int, number: int | None) -> None:
        """Take a host's address away and give it another one, or none."""
        self._run(host, "ip addr flush dev eth0")
        if number is not None:
            self._run(host, f"ip addr add {self.numbered(number)}/24 dev eth0")

    def command(self, host: int) -> list[str]:
        """What goes before a command that is to run on a host. The process id is that of the command."""
        return self._inside(host)

    def link(self, host: int, *, up: bool) -> None:
        """Plug a host's cable in or pull it."""
        self._run(0, f"ip link set port{host} {'up' if up else 'down'}")

    def trunk(self, *, up: bool) -> None:
        """Join both halves or part them."""
        self._run(0, f"ip link set trunk {'up' if up else 'down'}")

    def shape(self, host: int, rate: str | None) -> None:
        """Let at most `rate` (as tc writes it: `1mbit`) through a host's link, each way; None takes the limit away."""
        for where, device in ((0, f"port{host}"), (host, "eth0")):
            if rate is None:
                self._run(where, f"tc qdisc del dev {device} root")
            else:
                self._run(where, f"tc qdisc replace dev {device} root tbf rate {rate} burst 16kb latency 300ms")

    # --- inside -----------------------------------------------------------------------------------------------------

    def _inside(self, host: int) -> list[str]:
        """Host 0 is the switch."""
        return ["nsenter", "--user", "--net", "--preserve-credentials", "--target", str(self._holders[host].pid)]

    def _hold(self, command: list[str]) -> None:
        holder = subprocess.Popen(
            [*command, "sh", "-c", "echo && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._holders.append(holder)
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != b"\n":
            raise OSError(holder.stderr.read().decode() or "a namespace could not be made")

    def _wire(self) -> None:
        for bridge in ("left", "right"):
            self._run(0, f"ip link add {bridge} type bridge", f"ip link set {bridge} up")
        self._run(0, "ip link add trunk type veth peer name knurt", "ip link set trunk master left up")
        self._run(0, "ip link set knurt master right up")
        for host in range(1, self.count + 1):
            bridge = "left" if host <= self.count // 2 else "right"
            self._run(0, f"ip link add port{host} type veth peer name eth0 netns {self._holders[host].pid}")
            self._run(0, f"ip link set port{host} master {bridge} up")
            self._run(host, "ip link set lo up", f"ip addr add {self.address(host)}/24 dev eth0", "ip link set eth0 up")

    def _run(self, host: int, *commands: str) -> None:
        for command in commands:
            whole: Iterable[str] = [*self._inside(host), *command.split()]
            subprocess.run([*whole], check=True, capture_output=True, text=True, timeout=60)
