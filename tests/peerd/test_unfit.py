"""Homes on file systems without locks, sockets, hard links, shared memory or rights, as the kernel tells of them."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import pytest

from peerd.control.door import bind
from peerd.errors import UsageError
from peerd.machine.lock import hold, holder
from peerd.machine.paths import make_private
from peerd.store.opening import open_database
from peerd.wire.keys import PeerKey


def refusing(number: int) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_home_without_locks_is_told_by_name_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "lock").touch()
    monkeypatch.setattr(fcntl, "flock", refusing(number))

    for ask in (lambda: holder(tmp_path / "lock"), lambda: held(tmp_path / "lock")):
        with pytest.raises(UsageError, match=f"{tmp_path} has no locks") as told:
            ask()
        assert "--home DIR" in told.value.hint


def held(path: Path) -> None:
    with hold(path, version="1", socket=Path("/s")):
        raise AssertionError("it cannot be held")


def test_who_looks_at_a_lock_needs_no_right_to_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[int] = []
    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda file, kind: (kinds.append(kind), real(file, kind))[1])
    with hold(tmp_path / "lock", version="1", socket=Path("/s")):
        kinds.clear()
        assert holder(tmp_path / "lock") is not None

    assert kinds
    assert not any(kind & fcntl.LOCK_EX for kind in kinds)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_home_without_sockets_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    class Without(socket.socket):
        def bind(self, _: object) -> None:  # type: ignore[override]
            refusing(number)()

    monkeypatch.setattr(socket, "socket", Without)

    with pytest.raises(UsageError, match="has no sockets") as told:
        bind(tmp_path / "peerd.sock")
    assert "--home DIR" in told.value.hint


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_an_identity_is_made_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", refusing(number))
    made = PeerKey.load_or_create(tmp_path / "identity.key")

    assert PeerKey.load_or_create(tmp_path / "identity.key").peer_id == made.peer_id
    assert [path.name for path in tmp_path.iterdir()] == ["identity.key"]


def test_a_home_without_shared_memory_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_SHMMAP"
        raise error

    monkeypatch.setattr(sqlite3, "connect", refuse)

    with pytest.raises(UsageError, match="has no locks or shared memory"):
        open_database(tmp_path / "state.db", 1)


def test_a_folder_that_cannot_be_made_private_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(Path, "chmod", refusing(errno.EPERM))

    with pytest.raises(UsageError, match="has no rights for you alone") as told:
        make_private(folder)
    assert "--home DIR" in told.value.hint
