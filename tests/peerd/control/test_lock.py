from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerd.errors import AlreadyRunning, Unforeseen
from peerd.machine.lock import already_running, died, hold, holder

HOLD_FOR_EVER = (
    "import sys, signal\nfrom pathlib import Path\nfrom peerd.machine.lock import hold\n"
    "with hold(Path(sys.argv[1]), version='9.9.9', socket=Path('/s')):\n    print('held', flush=True); signal.pause()"
)


@pytest.fixture
def other(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_FOR_EVER, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_nobody_holds_a_lock_that_is_not_there_and_looking_makes_none(tmp_path: Path) -> None:
    assert holder(tmp_path / "lock") is None
    assert list(tmp_path.iterdir()) == []


def test_the_holder_is_named_while_it_holds(tmp_path: Path) -> None:
    with hold(tmp_path / "lock", version="1.2.3", socket=Path("/run/s")):
        found = holder(tmp_path / "lock")

    assert (found.pid, found.version, found.socket) == (os.getpid(), "1.2.3", "/run/s")
    assert holder(tmp_path / "lock") is None


def test_a_second_daemon_is_told_who_runs_since_when(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with (
        pytest.raises(
            AlreadyRunning, match=rf"9\.9\.9 runs here already: process {other.pid}, since 20\d\d-"
        ) as caught,
        hold(tmp_path / "lock", version="1", socket=Path("/s")),
    ):
        pass

    assert caught.value.exit_code == 4
    assert "peerd stop" in caught.value.hint


def test_a_killed_daemon_leaves_no_lock_behind(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()

    assert (tmp_path / "lock").read_text() != ""
    assert holder(tmp_path / "lock") is None
    with hold(tmp_path / "lock", version="2", socket=Path("/s")):
        assert holder(tmp_path / "lock").version == "2"


@pytest.mark.parametrize("words", [b"", b'{"version": "\xff"}', b"[" * 9000])
def test_a_lock_without_words_still_counts(tmp_path: Path, other: subprocess.Popen[str], words: bytes) -> None:
    (tmp_path / "lock").write_bytes(words)

    assert "starting or stopping" in str(already_running(holder(tmp_path / "lock")))


def test_the_lock_says_why_its_last_holder_ended_and_the_next_one_learns_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(Unforeseen), hold(lock, version="1", socket=Path("/s")):
        raise Unforeseen.of("recording a checkpoint", "ZeroDivisionError")

    assert died(lock).startswith(f"process {os.getpid()}, started 20")
    assert "recording a checkpoint failed (ZeroDivisionError)" in died(lock)
    with hold(lock, version="1", socket=Path("/s")) as me:
        assert "recording a checkpoint failed" in me.before
        assert holder(lock).ended == ""
    assert died(lock) == ""
    with hold(lock, version="1", socket=Path("/s")) as me:
        assert me.before == ""


def test_what_the_lock_says_of_a_crash_is_plain_and_short(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with pytest.raises(ExceptionGroup), hold(lock, version="1", socket=Path("/s")):
        raise ExceptionGroup("", [ValueError("\x1b[2J\n" + "x" * 10_000)])

    assert "ValueError" in died(lock)
    assert died(lock).isprintable()
    assert len(died(lock)) < 600


def test_who_was_killed_is_told_to_the_next_holder(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()

    with hold(tmp_path / "lock", version="2", socket=Path("/s")) as me:
        assert me.before.startswith(f"process {other.pid}, started 20")
        assert me.before.endswith("was killed or crashed")
