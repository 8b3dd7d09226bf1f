"""A file is written whole: the old one or the new one, whatever fails meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from p2pfinetune.system import durable
from p2pfinetune.system.durable import create_whole, mode_of, settle, unfinished, write_whole

NO_LINKS = {95}


def steps(into: list[str], failing: str = "") -> Callable[[str], AbstractContextManager[None]]:
    """Notes each step, and fails before one of them as a full disk does."""

    @contextmanager
    def step(name: str) -> Iterator[None]:
        into.append(name)
        if name == failing:
            raise OSError(28, "No space left on device")
        yield

    return step


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("failing", durable.WRITE_STEPS[:-1])
def test_a_write_that_fails_at_any_step_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, failing: str) -> None:
    write_whole(tmp_path / "kept", b"old")

    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "kept", b"new", step=steps([], failing))
    assert (tmp_path / "kept").read_bytes() == b"old"
    assert names(tmp_path) == ["kept"]


def test_content_is_synced_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = os.fsync

    def synced(handle: int) -> None:
        done.append("fsync of the folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync of the file")
        real(handle)

    monkeypatch.setattr(os, "fsync", synced)
    write_whole(tmp_path / "one", b"1", step=steps(done))
    written, done[:] = list(done), []
    create_whole(tmp_path / "two", b"2", lacking=(), step=steps(done))
    created, done[:] = list(done), []
    settle(tmp_path / "two", tmp_path / "three", step=steps(done))

    assert written == ["write", "sync", "fsync of the file", "rename", "folder_sync", "fsync of the folder"]
    assert created == ["write", "sync", "fsync of the file", "link", "folder_sync", "fsync of the folder"]
    assert done == ["sync", "fsync of the file", "rename", "folder_sync", "fsync of the folder"]
    for tried, said in ((written, durable.WRITE_STEPS), (created, durable.CREATE_STEPS), (done, durable.SETTLE_STEPS)):
        assert tuple(name for name in tried if not name.startswith("fsync")) == said


def test_what_is_created_takes_no_others_place_with_links_or_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    create_whole(tmp_path / "key", b"first", lacking=NO_LINKS)
    create_whole(tmp_path / "key", b"second", lacking=NO_LINKS)
    monkeypatch.setattr(os, "link", no_links)
    create_whole(tmp_path / "key", b"third", lacking=NO_LINKS)
    create_whole(tmp_path / "other", b"fourth", lacking=NO_LINKS)
    with pytest.raises(OSError, match="not supported"):
        create_whole(tmp_path / "last", b"fifth", lacking=())

    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == {"key": b"first", "other": b"fourth"}


def test_a_file_is_private_unless_it_is_asked_to_be_as_it_was_or_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    write_whole(tmp_path / "private", b"")
    write_whole(tmp_path / "usual", b"", mode=None)
    (tmp_path / "kept").touch(mode=0o640)
    (tmp_path / "kept").chmod(0o640)
    write_whole(tmp_path / "kept", b"", mode=mode_of(tmp_path / "kept"))

    assert mode_of(tmp_path / "private") == mode_of(tmp_path / "absent") == 0o600
    assert mode_of(tmp_path / "usual") == mode_of(tmp_path / "any")
    assert mode_of(tmp_path / "kept") == 0o640


def test_what_a_killed_writer_left_is_found_and_no_other_file_is(tmp_path: Path) -> None:
    with durable.beside(tmp_path / "config.toml") as left, durable.beside(tmp_path / "config") as other:
        assert left != other
        (tmp_path / "config.toml").touch()
        assert list(unfinished(tmp_path / "config.toml")) == [left]
    assert not list(unfinished(tmp_path / "config.toml"))
