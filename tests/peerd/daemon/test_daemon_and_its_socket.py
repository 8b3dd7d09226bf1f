"""The control socket of a running daemon is deleted, with its folder perhaps: status, start and stop agree, and it comes back."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from peerd.cli import main
from peerd.control.client import Client
from peerd.control.door import LOOK_SECONDS, Door
from peerd.errors import AlreadyRunning, PeerdError
from peerd.machine import lock
from peerd.machine.paths import Paths

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_a_deleted_socket_is_told_as_that_made_again_and_needed_by_nobody_to_stop(process, capsys):
    daemon = process("text").start()
    daemon.until(lambda status: status.round >= 1)
    home, pid = str(daemon.folder), daemon.process.pid
    daemon.process.send_signal(signal.SIGSTOP)  # so that it is not made again before we have asked everybody
    daemon.paths.socket.unlink()
    asked = main(["status", "--home", home]), main(["start", "--home", home, "--data", home])
    said = capsys.readouterr().err
    daemon.process.send_signal(signal.SIGCONT)

    assert asked == (5, 4)
    assert f"process {pid} runs here, but its control socket {daemon.paths.socket} is not there" in said
    assert f"runs here already: process {pid}" in said
    assert "crashed" not in said
    daemon.until(lambda status: status.worker.restarts == 0)
    daemon.paths.socket.unlink()
    assert main(["stop", "--home", home]) == 0
    assert daemon.process.wait(20) == 0
    assert daemon.left() == []


def test_after_a_logout_the_daemon_is_reached_through_another_socket(process, monkeypatch):
    daemon = process("text")
    runtime = daemon.folder.with_name("run")  # of the login
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    daemon.folder = daemon.folder.with_name(
        "n" * 100
    )  # too long for a socket, which is made in the login's folder then
    daemon.paths = Paths.of(daemon.folder)
    daemon.start()
    daemon.until(lambda status: status.round >= 1)
    assert daemon.paths.socket.parent == runtime / "peerd"
    watching = Client(daemon.folder).watch()
    before = next(watching).round
    shutil.rmtree(runtime)
    runtime.write_text("the folder of the login is gone, and nobody may make it again")

    until(lambda: Client(daemon.folder).status().worker.restarts == 0)
    assert lock.holder(daemon.paths.lock).socket == str(daemon.paths.spare_socket())
    assert any(status.round > before for status in watching)  # who was connected stays so
    assert main(["stop", "--home", str(daemon.folder)]) == 0
    assert daemon.process.wait(20) == 0
    assert not daemon.paths.spare_socket().exists()


def until(is_so):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(PeerdError):
            if is_so():
                return
        time.sleep(0.05)
    pytest.fail("it did not get there")


def test_a_socket_of_somebody_else_is_not_taken_over(tmp_path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as other:
        door = Door(tmp_path / "s", look_seconds=0.001)
        mine = door.open()
        (tmp_path / "s").unlink()
        other.bind(str(tmp_path / "s"))
        other.listen()
        with pytest.raises(AlreadyRunning):
            door._again()
        door.close()
        mine.close()

        assert (tmp_path / "s").exists()


def test_a_socket_is_not_made_in_a_home_that_is_not_ours_any_more(tmp_path):
    listened = []

    async def scenario(may):
        door = Door(tmp_path / "home" / "s", may=lambda: may, look_seconds=0.001)
        mine = door.open()
        (tmp_path / "home" / "s").unlink()

        async def listen(listener):
            listened.append(listener)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await door.watch(listen)
        door.close()
        mine.close()

    asyncio.run(scenario(may=False))
    assert listened == []
    asyncio.run(scenario(may=True))
    assert len(listened) == 1
    listened[0].close()
    assert not (tmp_path / "home" / "s").exists()


def test_only_the_process_that_holds_the_lock_is_ever_signalled(tmp_path):
    path = tmp_path / "lock"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with lock.hold(path, version="1", socket=path):
            path.write_bytes(path.read_bytes().replace(b'"pid":%d' % os.getpid(), b'"pid":%d' % bystander.pid))
            assert lock.holder(path).pid == bystander.pid
            with pytest.raises(PeerdError, match="cannot be found from here"):
                lock.ask_to_end(path)
            path.write_bytes(b"")
            with pytest.raises(PeerdError, match="cannot be found from here"):
                lock.ask_to_end(path)
        assert lock.ask_to_end(path) is None  # nobody holds it
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_daemon_looks_after_its_socket_often_enough_for_what_people_are_told():
    assert LOOK_SECONDS <= 5.0
