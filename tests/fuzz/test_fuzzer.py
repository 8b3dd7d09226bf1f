"""The coverage-guided fuzzer itself, for a bounded time and with the same dice each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed: NOTHING IS FUZZED by coverage here")

ROOT = Path(__file__).parents[2]
MINUTES, RUNS = 0.3, 1000  # of each target, whichever ends first

BROKEN = """
import atheris, pathlib, sys
from tests.fuzz import engine
from tests.fuzz.target import Target

@atheris.instrument_func
def run(data):
    if data[:1] == b"\\xc1":
        raise KeyError("what no contract says")

target = Target(name="broken", run=run, seeds=lambda: [b""], max_bytes=8, mutate=lambda data, dice: b"\\xc1" + data)
done = engine.fuzz(target, pathlib.Path(sys.argv[1]), seconds=20, runs=10_000, seed=1)
print(engine.told(done))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_target_breaks_under_a_bounded_coverage_guided_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "run", "--out", str(tmp_path)]
    command += ["--minutes", str(MINUTES), "--runs", str(RUNS), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_a_fault_is_kept_and_shown_with_the_command_that_shows_it_again(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BROKEN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    (fault,) = (tmp_path / "broken" / "faults").iterdir()
    assert fault.read_bytes()[:1] == b"\xc1"
    assert "KeyError: 'what no contract says'" in done.stdout
    assert "000000  c1" in done.stdout
    assert f"python -m tests.fuzz replay broken {fault}" in done.stdout
