"""What each attacker does to a peer in a process of its own: `python -m tests.attackers.measure --seconds 10`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import psutil

from tests.attackers import ON_PEERS

SETTLING_SECONDS = 2.0


def measured(name: str, seconds: float) -> dict[str, object]:
    """MiB and descriptors before, at most and after, and what attacker and victim counted."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "tests.attackers.victim"], **pipes) as victim:
        told, seen = json.loads(victim.stdout.readline()), psutil.Process(victim.pid)
        options = ["--source", "127.0.0.2", *(["--blob", told["blob"]] if name == "slow-reader" else [])]
        command = [sys.executable, "-m", "tests.attackers", name, told["address"], "--seconds", str(seconds), *options]
        time.sleep(0.5)
        mib, descriptors = [_mib(seen)], [seen.num_fds()]
        with subprocess.Popen(command, **pipes, stderr=subprocess.DEVNULL) as attacker:
            while attacker.poll() is None:
                time.sleep(0.05)
                mib.append(_mib(seen))
                descriptors.append(seen.num_fds())
            done = json.loads(attacker.stdout.read())
        time.sleep(SETTLING_SECONDS)
        victim.stdin.write("\n")
        victim.stdin.flush()
        return {
            "attack": name,
            "mib": [mib[0], max(mib), _mib(seen)],
            "descriptors": [descriptors[0], max(descriptors), seen.num_fds()],
            "attacker": done,
            "victim": json.loads(victim.stdout.readline()),
        }


def _mib(process: psutil.Process) -> int:
    return round(process.memory_info().rss / 2**20)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.attackers.measure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("names", nargs="*", choices=[*ON_PEERS, []], help="of attackers; all where none is named")
    given = parser.parse_args()
    for attack in given.names or ON_PEERS:
        print(json.dumps(measured(attack, given.seconds)), flush=True)  # noqa: T201  # it is the answer
