"""Hosts of their own in network namespaces: a bridge, a veth pair each. Needs Linux, `unshare`, `ip` and `nsenter`.

Everything lives in a user namespace that the run makes for itself: no rights are needed, nothing outside is touched,
and all of it is gone with the last process. `tc` shapes links where the kernel can.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

INSIDE = "PEERD_SOAK_INSIDE"
PR_SET_PDEATHSIG = 1  # linux/prctl.h
NETWORK = "10.83.0"


def can_be_made() -> str:
    """Why there can be no hosts on this machine; "" where there can."""
    missing = [tool for tool in ("unshare", "ip", "nsenter") if shutil.which(tool) is None]
    if sys.platform != "linux" or missing:
        return f"network namespaces need Linux with {', '.join(missing) or 'iproute2 and util-linux'}"
    script = "ip link add pa type veth peer name pb && ip link add pc type bridge && unshare -n true"
    done = subprocess.run(["unshare", "-rn", "sh", "-c", script], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"network namespaces cannot be made here: {done.stderr.strip()}"


def enter() -> None:
    """Run the same program again as root of a namespace of its own; returns only there."""
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "-rn", sys.executable, "-m", "tests.soak", *sys.argv[1:]])
    run("ip", "link", "set", "lo", "up")
    for bridge in ("here", "there"):  # the second one is for partitions
        run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
        run("ip", "link", "set", bridge, "up")


def run(*command: str) -> bool:
    """Whether it worked."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Host:
    """A namespace held open by a process that sleeps."""

    def __init__(self, number: int) -> None:
        self.address = f"{NETWORK}.{number}"
        self._port = f"port{number}"
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sleep", "infinity"],
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of the C library
        )
        mine = Path("/proc/self/ns/net").readlink()
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == mine:
            time.sleep(0.01)
        run("ip", "link", "add", self._port, "type", "veth", "peer", "name", f"eth{number}")
        run("ip", "link", "set", f"eth{number}", "netns", str(self._holder.pid))
        for command in (
            f"ip link set eth{number} name eth0",
            "ip link set lo up",
            f"ip address add {self.address}/24 dev eth0",
            "ip link set eth0 up",
        ):
            run(*self.inside(command.split()))
        self.join("here")
        self.up()

    def inside(self, command: list[str]) -> list[str]:
        """The command line that runs a command in there."""
        return ["nsenter", "-t", str(self._holder.pid), "-n", "--", *command]

    def up(self) -> None:
        """Plug the cable in."""
        run("ip", "link", "set", self._port, "up")

    def down(self) -> None:
        """Pull it."""
        run("ip", "link", "set", self._port, "down")

    def join(self, bridge: str) -> None:
        """`here` or `there`: hosts of one bridge reach one another."""
        run("ip", "link", "set", self._port, "master", bridge)

    def shape(self, kilobits: int | None) -> None:
        """So many kilobits a second each way; None: as many as there are."""
        change = ["replace", "dev"] if kilobits else ["del", "dev"]
        limits = (
            ["root", "tbf", "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "400ms"] if kilobits else ["root"]
        )
        run("tc", "qdisc", *change, self._port, *limits)
        run(*self.inside(["tc", "qdisc", *change, "eth0", *limits]))

    def end(self) -> None:
        """Take it away."""
        self._holder.kill()
        self._holder.wait()


class Loopback:
    """Instead of a host where none can be made: no link of its own, so none that could be cut."""

    address = "127.0.0.1"

    def inside(self, command: list[str]) -> list[str]:
        """As it is."""
        return command

    def end(self) -> None:
        """Nothing to take away."""


def die_with_parent() -> None:
    """In the child, before exec."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bytes_in(folder: Path) -> int:
    """Of all files; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue
        total += status.st_blocks * 512
    return total
