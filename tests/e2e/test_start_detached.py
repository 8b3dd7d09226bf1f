"""`peerd start --detach` with the real daemon: ready when it says so, told twice it runs, stopped by command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerd.machine.lock import holder
from peerd.machine.paths import Paths
from tests.e2e.test_hostile_folder import NAMES, TRAP, sprung
from tests.support.processes import children_of

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SMALL = ("--listen", "/ip4/127.0.0.1/tcp/0", "--threads=1", "--steps-per-round=1", "--batch-size=1", "--context=64")


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        yield Path(folder) / "home"
        if (left := holder(Paths.of(Path(folder) / "home").lock)) is not None and left.pid:
            os.kill(left.pid, signal.SIGKILL)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (found := tmp_path / "text").mkdir()
    for number in range(80):
        words = " ".join(
            f"the {number} {word} stood by the river and waited for word {word * 7 % 53}" for word in range(12)
        )
        (found / f"{number}.txt").write_text(words)
    return found


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder to stand in, full of files that Python would take for modules; see test_hostile_folder."""
    found = tmp_path / "here"
    found.mkdir()
    for name in NAMES:
        (found / f"{name}.py").write_text(TRAP)
    return found


def peerd(*words: object, cwd: Path | None = None) -> tuple[int, dict[str, object]]:
    command = [str(Path(sys.executable).with_name("peerd")), *(str(word) for word in words), "--json"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=250)
    return done.returncode, json.loads(done.stdout)


def test_a_daemon_in_the_background_is_ready_when_it_says_so_and_stops_when_told(
    home: Path, text: Path, trapped: Path
) -> None:
    started, document = peerd("start", "--home", home, "--data", text, *SMALL, "--detach", cwd=trapped)
    pid = document["data"]["pid"]
    stand_in = {str(Path(f"/proc/{one}/cwd").readlink()) for one in (pid, *children_of(pid))}
    os.kill(pid, signal.SIGHUP)  # the terminal closes, which is nothing to it
    asked, status = peerd("status", "--home", home)
    again, refused = peerd("start", "--home", home)
    stopped, _ = peerd("stop", "--home", home, cwd=trapped)
    gone, _ = peerd("status", "--home", home)

    assert (started, asked, again, stopped, gone) == (0, 0, 4, 0, 3)
    assert status["data"]["peer_id"] == document["data"]["peer_id"]
    assert status["data"]["state"] != "starting"
    assert status["data"]["worker"]["precision"] in {"fp32", "bf16"}
    assert status["data"]["worker"]["precision_why"]  # by default this machine was asked, and measured
    assert f"process {pid}" in refused["error"]["message"]
    assert not (home / "peerd.sock").exists()
    assert (stand_in, sprung(trapped)) == ({"/"}, [])


def test_a_daemon_that_cannot_start_says_why_here_and_forgets_the_mistake(home: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short")
    code, document = peerd("start", "--home", home, "--data", tmp_path / "short.txt", *SMALL, "--detach")

    assert code == 2
    assert document["error"]["code"] == "usage"
    assert "peerd start:" in document["error"]["message"]
    assert not (home / "config.toml").exists()
    assert holder(home / "peerd.lock") is None
