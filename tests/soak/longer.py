"""The long forms of other tests, each within a bounded time, after the network has had its turn."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PART = 0.1  # of the network's minutes, for the fuzzer
MOST_SECONDS = 900.0  # for any of them, whatever happens


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one."""

    name: str
    code: int
    last_words: str


def stages(minutes: float, seed: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Name to command and environment."""
    return {
        "fuzzing": (
            ["-m", "tests.fuzz", "run", "--minutes", f"{max(0.5, minutes * PART):g}", "--seed", f"{seed + 1}"],
            {},
        ),
        "random kills": (["-m", "pytest", "-q", "tests/crash/test_random_kills.py"], {"PEERD_CRASH_SEED": f"{seed}"}),
        "floods": (["-m", "tests.attackers.measure", "--seconds", f"{max(2.0, minutes * 0.4):g}"], {}),
    }


def run_all(minutes: float, seed: int, folder: Path) -> list[Outcome]:
    """One after the other; what each says stands in the folder."""
    found = []
    for name, (command, environment) in stages(minutes, seed).items():
        print(f"{name} ...", flush=True)
        out = folder / f"{name.replace(' ', '-')}.log"
        with out.open("w") as said:
            try:
                code = subprocess.run(
                    [sys.executable, *command],
                    env={**os.environ, **environment},
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    timeout=MOST_SECONDS,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                code = 124
        found.append(Outcome(name, code, "\n".join(out.read_text(errors="replace").splitlines()[-25:])))
    return found
