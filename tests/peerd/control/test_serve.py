from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peerd.control import serve as served
from peerd.control.client import Client
from peerd.control.credentials import peer_uid
from peerd.control.door import bind
from peerd.errors import AlreadyRunning, StoreError


@pytest.fixture
def folder(home: Path) -> Path:
    home.mkdir()
    return home


def test_the_socket_is_for_its_owner_alone(daemon: Any) -> None:
    assert stat.S_IMODE(daemon.paths.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.paths.socket.parent.stat().st_mode) == 0o700


def test_the_socket_is_private_from_its_first_moment_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        listener = bind(folder / "s")
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o600
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    listener.close()


def test_a_dead_socket_is_replaced(folder: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "s"))
    dead.close()
    listener = bind(folder / "s")
    listener.close()


def test_a_socket_that_answers_is_left_alone(daemon: Any) -> None:
    with pytest.raises(AlreadyRunning):
        bind(daemon.paths.socket)

    assert Client(socket_path=daemon.paths.socket).status().name == "alice"


def test_a_file_in_the_way_is_never_removed(folder: Path) -> None:
    (folder / "s").write_text("precious")
    with pytest.raises(StoreError, match="in the way"):
        bind(folder / "s")

    assert (folder / "s").read_text() == "precious"


def test_the_socket_is_gone_after_the_stop(home: Path, view: Any, serve_view: Any) -> None:
    from peerd.machine.paths import Paths

    with serve_view(Paths.of(home), view) as running:
        assert running.paths.socket.exists()

    assert not running.paths.socket.exists()


def test_a_long_home_is_reached_through_its_short_socket(home: Path, view: Any, serve_view: Any) -> None:
    from peerd.machine.paths import Paths

    home.mkdir()
    long = home / ("n" * 100)
    with serve_view(Paths.of(long), view):
        assert Client(long).status().name == "alice"


def test_the_kernel_says_who_calls() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_uid(here) == os.getuid()


def test_a_connection_of_another_user_is_closed_unread(daemon: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "peer_uid", lambda _: os.getuid() + 1)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(20)
        caller.connect(str(daemon.paths.socket))
        try:
            caller.sendall(b"GET /v1/status HTTP/1.1\r\nHost: peerd\r\n\r\n")
            answer = caller.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""

    assert answer == b""


AS_NOBODY = """
import os, socket, sys
os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1]); s.sendall(b"GET /v1/status HTTP/1.1\\r\\nHost: peerd\\r\\n\\r\\n"); print(len(s.recv(100)))
except PermissionError: print("denied")
except (ConnectionResetError, BrokenPipeError): print(0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize(("is_open", "expected"), [(False, "denied"), (True, "0")])
def test_a_real_other_user_is_kept_out_by_mode_and_by_credentials(daemon: Any, is_open: bool, expected: str) -> None:
    if is_open:  # as if someone had loosened everything
        daemon.paths.socket.chmod(0o666)
        for folder in (daemon.paths.home, daemon.paths.home.parent):
            folder.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-I", "-c", AS_NOBODY, str(daemon.paths.socket)], capture_output=True, text=True, check=True
    )

    assert found.stdout.strip() == expected
