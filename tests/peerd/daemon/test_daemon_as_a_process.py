"""What surrounds the process of a daemon: standard streams, the terminal, the folder it was started in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerd.control.client import Client
from peerd.machine import lock

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def with_streams(redirected):
    """Before the command of a daemon: a shell that sends its streams elsewhere, and becomes it."""
    return ["bash", "-c", f'exec "$0" "$@" {redirected}']


@pytest.mark.parametrize("redirected", ["<&- >&- 2>&-", "<&-", "> /dev/full 2>&1"])
def test_a_daemon_whose_streams_are_closed_or_full_trains_and_ends_as_ever(process, redirected):
    daemon = process("text", rounds=2).start(wrap=with_streams(redirected))
    found = daemon.until(lambda status: status.round >= 2)

    assert found.worker.restarts == 0
    assert daemon.end()[0] == 0
    assert "Traceback" not in daemon.paths.log.read_text()


def test_a_full_or_missing_output_changes_no_exit_code_of_a_command(process):
    daemon = process("hangs").start()
    daemon.until(lambda status: status.state != "starting")

    def code(command, redirected):
        line = f'"$0" -m peerd {command} --home {daemon.folder} {redirected}'
        done = subprocess.run(["bash", "-c", line, sys.executable], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    for redirected in ("> /dev/full 2>&1", ">&- 2>&-", "2> /dev/full | true; exit ${PIPESTATUS[0]}"):
        assert code("start", redirected)[0] == 4
    assert code("status", "| true; exit ${PIPESTATUS[0]}") == (0, "")
    assert code("status --json", "> /dev/full")[0] == 1
    assert "cannot be written to standard output: No space left" in code("status", "> /dev/full")[1]
    with Client(home=daemon.folder) as client:
        assert client.status().worker.restarts == 0
    assert daemon.end()[0] == 0
    assert code("status", "> /dev/full 2>&1")[0] == 3


def test_a_daemon_outlives_the_folder_it_was_started_in_and_so_do_its_workers(process, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    daemon = process("text").start(cwd=here)
    daemon.until(lambda status: status.round >= 1)
    here.rmdir()
    os.kill(daemon.children()[0], signal.SIGKILL)
    before = daemon.status().round

    daemon.until(lambda status: status.worker.restarts == 1 and status.round > before)
    assert str(Path(f"/proc/{daemon.process.pid}/cwd").readlink()) == "/"
    assert daemon.end()[0] == 0


def test_the_end_of_the_terminal_ends_a_daemon_in_order_and_is_no_crash(process):
    daemon = process("slow").start()
    daemon.until(lambda status: status.worker.state == "training")

    code, seconds = daemon.end(signal.SIGHUP)

    assert (code, seconds < 15) == (0, True)
    assert daemon.left() == []
    assert lock.died(daemon.paths.lock) == ""


def test_a_daemon_that_is_to_outlive_its_terminal_does(process):
    daemon = process("text").start(wrap=["bash", "-c", """trap '' HUP; exec "$0" "$@" """])
    before = daemon.until(lambda status: status.round >= 1).round
    daemon.process.send_signal(signal.SIGHUP)

    daemon.until(lambda status: status.round > before)
    assert daemon.end()[0] == 0
