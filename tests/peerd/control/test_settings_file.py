from __future__ import annotations

import os
from pathlib import Path

import pytest

from peerd.config import Config
from peerd.errors import StoreError, UsageError
from peerd.settings_file import merged, put_back, read, read_config, write_config


def test_what_was_chosen_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    config = Config(
        name="Zoë", data=("/a", "/b c"), lan=True, lr=1e-3, trust_options={"top_k": 3}, shares={"p": (0.5, 0.5)}
    )
    write_config(file, config)

    assert read_config(file) == config
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_defaults_are_not_written_so_that_better_ones_arrive_with_an_update(tmp_path: Path) -> None:
    write_config(tmp_path / "config.toml", Config(name="alice"))

    assert read(tmp_path / "config.toml") == {"name": "alice"}


def test_what_is_given_wins_over_what_is_remembered(tmp_path: Path) -> None:
    config = merged({"name": "old", "rank": 4}, {"name": "new"}, tmp_path / "config.toml")

    assert (config.name, config.rank) == ("new", 4)


def test_no_file_is_no_memory(tmp_path: Path) -> None:
    assert read(tmp_path / "config.toml") == {}


@pytest.mark.parametrize(
    "damage",
    [
        b"name = ",
        b"\xff\xfe\x00",
        b"rank = 0\n",
        b"ranks = 8\n",
        b'rank = "8"\n',
        b"data = " + b"[" * 9000,
        b"rank = " + b"9" * 5000,
    ],
)
def test_a_damaged_file_is_a_clear_error_and_is_kept(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(damage)

    with pytest.raises(UsageError, match=r"config\.toml") as caught:
        read_config(file)

    assert "mv " in caught.value.hint
    assert file.read_bytes() == damage


def test_a_wrong_option_is_named_as_it_is_typed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--steps-per-round: .*>= 1"):
        merged({}, {"steps_per_round": 0}, tmp_path / "config.toml")


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    write_config(file, Config(name="old"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_config(file, Config(name="new"))

    assert read_config(file).name == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_start_that_fails_can_take_its_options_back(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    write_config(file, Config(name="old"))
    before = read(file)
    write_config(file, Config(name="new"))
    put_back(file, before)

    assert read(file) == {"name": "old"}


def test_taking_back_the_first_options_leaves_no_file(tmp_path: Path) -> None:
    write_config(tmp_path / "config.toml", Config(name="new"))
    put_back(tmp_path / "config.toml", {})

    assert list(tmp_path.iterdir()) == []


def test_a_signal_in_the_middle_of_writing_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    write_config(path, Config(name="old"))

    def leave(_: int) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(os, "fsync", leave)
    with pytest.raises(SystemExit):
        write_config(path, Config(name="new"))

    assert [file.name for file in tmp_path.iterdir()] == ["config.toml"]
    assert read_config(path).name == "old"
