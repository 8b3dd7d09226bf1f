from __future__ import annotations

import os
from pathlib import Path

import pytest

from peerd.errors import UsageError
from peerd.machine.paths import MAX_SOCKET_PATH, Paths, expanded, make_private


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "PEERD_HOME",
        "XDG_RUNTIME_DIR",
        "XDG_DATA_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)


def test_a_home_holds_everything(tmp_path: Path) -> None:
    named = Paths.of(tmp_path).named()

    assert all(path.startswith(str(tmp_path)) for name, path in named.items() if name != "socket")


def test_computing_paths_creates_nothing(home: Path) -> None:
    Paths.of(home)

    assert not home.exists()


def test_the_variable_names_a_home_and_the_option_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERD_HOME", str(home))

    assert Paths.of().home == home
    assert Paths.of(home / "other").home == home / "other"


def test_without_a_home_the_folders_are_those_of_the_desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_HOME", "CONFIG_HOME", "CACHE_HOME", "RUNTIME_DIR"):
        monkeypatch.setenv(f"XDG_{name}", f"/x/{name.lower()}")
    found = Paths.of()

    assert found.database == Path("/x/data_home/peerd/state.db")
    assert found.config == Path("/x/config_home/peerd/config.toml")
    assert found.cache == Path("/x/cache_home/peerd")
    assert found.socket == Path("/x/runtime_dir/peerd/peerd.sock")
    assert found.blobs.parent == found.scratch.parent


def test_a_long_home_gets_a_short_socket_that_is_its_own(tmp_path: Path) -> None:
    long, other = tmp_path / ("a" * 120), tmp_path / ("b" * 120)

    assert len(os.fsencode(Paths.of(long).socket)) <= MAX_SOCKET_PATH
    assert Paths.of(long).socket == Paths.of(long).socket
    assert Paths.of(long).socket != Paths.of(other).socket


def test_a_long_runtime_folder_does_not_lengthen_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "r" * 120)

    assert len(os.fsencode(Paths.of().socket)) <= MAX_SOCKET_PATH
    assert len(os.fsencode(Paths.of(tmp_path / ("a" * 120)).socket)) <= MAX_SOCKET_PATH


def test_folders_are_for_this_user_alone_even_where_they_were_open(home: Path) -> None:
    home.mkdir(mode=0o755)
    paths = Paths.of(home)
    paths.prepare()

    for folder in (home, paths.blobs, paths.scratch, paths.cache, paths.socket.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_everybody_shares_is_refused() -> None:
    with pytest.raises(UsageError, match="not a folder of your own"):
        make_private(Path("/tmp"))

    assert Path("/tmp").stat().st_mode & 0o777 == 0o777


def test_a_file_in_the_way_is_an_error_of_the_person(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("hello")

    with pytest.raises(UsageError, match="home"):
        Paths.of(tmp_path / "home").prepare()


def test_a_link_under_tmp_is_not_followed(tmp_path: Path) -> None:
    link = Path(f"/tmp/pd-link-{os.getpid()}")
    link.symlink_to(tmp_path)
    try:
        with pytest.raises(UsageError, match="not a folder"):
            make_private(link)
    finally:
        link.unlink()


@pytest.mark.parametrize("name", ["blobs", "scratch", "cache"])
def test_a_file_in_the_place_of_a_folder_is_called_that(home: Path, name: str) -> None:
    home.mkdir(mode=0o700)
    (home / name).write_text("")

    with pytest.raises(UsageError, match=f"{home / name} is in the way: it is not a folder") as caught:
        Paths.of(home).prepare()
    assert caught.value.hint.startswith(f"move it away: mv {home / name} ")


def test_a_relative_path_in_a_folder_that_was_deleted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(UsageError, match="home lies in the current folder, which was deleted") as caught:
        Paths.of(Path("home"))
    assert "whole path" in caught.value.hint
    assert Paths.of(tmp_path).home == tmp_path


def test_a_variable_of_the_environment_means_the_same_wherever_the_daemon_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.delenv("PEERD_HOME", raising=False)
    monkeypatch.chdir(tmp_path)

    assert all(Path(path).is_absolute() for path in Paths.of().named().values())


def test_a_user_without_a_home_folder_is_asked_for_one_and_needs_none_where_it_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nobody(monkeypatch)

    assert Paths.of(tmp_path / "home").home == tmp_path / "home"
    with pytest.raises(UsageError, match="HOME is not set") as told:
        Paths.of(None)
    assert "--home DIR" in told.value.hint
    with pytest.raises(UsageError, match="~/notes"):
        expanded("~/notes")


def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user id that the system has no entry for."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "PEERD_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 2)
