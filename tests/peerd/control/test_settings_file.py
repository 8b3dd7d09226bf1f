from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.cli.check import checked
from peerd.config import Config
from peerd.config_file import contents, edited, merged, put_back, read, read_config, write_config
from peerd.demo.plan import DemoOptions
from peerd.errors import StoreError, UsageError

CHOICES = {
    "name": st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    "rank": st.integers(1, 9),
    "lr": st.floats(1e-4, 1.0),
    "lan": st.booleans(),
    "data": st.lists(st.sampled_from(["/a", "/b c"]), max_size=2),
    "trust_options": st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 3), max_size=2),
    "shares": st.dictionaries(st.sampled_from(["p", "q.r"]), st.lists(st.floats(0, 1), max_size=2), max_size=2),
}


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
    with pytest.raises(UsageError, match=r"--steps-per-round: 0 .*at least 1"):
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
    before = contents(file)
    write_config(file, Config(name="new"))
    put_back(file, before)

    assert read(file) == {"name": "old"}


def test_taking_back_the_first_options_leaves_no_file(tmp_path: Path) -> None:
    write_config(tmp_path / "config.toml", Config(name="new"))
    put_back(tmp_path / "config.toml", None)

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


HAND = """# my peers
name = "anna"   # as at home

# quick rounds, for the old laptop
steps_per_round = 5
trust = "validation"

[trust_options]
temperature = 0.5 # warm
"""


def test_an_option_that_is_written_keeps_comments_order_and_form(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(HAND)
    config = read_config(file)
    write_config(file, msgspec.structs.replace(config, rank=4, steps_per_round=7))

    assert file.read_text() == HAND.replace("= 5", "= 7").replace('"validation"\n', '"validation"\nrank = 4\n')


def test_an_option_that_is_forgotten_takes_no_other_comment_with_it(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(HAND)
    write_config(file, msgspec.structs.replace(read_config(file), steps_per_round=Config().steps_per_round))

    assert "# my peers" in file.read_text()
    assert "# warm" in file.read_text()
    assert "steps_per_round" not in read(file)


def test_a_start_that_changes_nothing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.toml"
    file.write_text(HAND)
    monkeypatch.setattr("os.fsync", lambda _: pytest.fail("it was written"))
    write_config(file, read_config(file))

    assert file.read_text() == HAND


def test_a_link_is_followed_and_the_mode_of_the_file_stays(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles" / "peerd.toml"
    kept.parent.mkdir()
    kept.write_text(HAND)
    kept.chmod(0o640)
    link = tmp_path / "config.toml"
    link.symlink_to(kept)
    before = contents(link)
    write_config(link, msgspec.structs.replace(read_config(link), name="ben"))

    assert link.is_symlink()
    assert 'name = "ben"' in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o640
    put_back(link, before)
    assert kept.read_text() == HAND


def test_a_file_with_a_byte_order_mark_is_read_and_written(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + HAND.encode())
    write_config(file, msgspec.structs.replace(read_config(file), name="ben"))

    assert read_config(file).name == "ben"
    assert "# warm" in file.read_text()


@given(st.fixed_dictionaries({}, optional=CHOICES), st.fixed_dictionaries({}, optional=CHOICES))
def test_whatever_was_chosen_before_what_is_written_is_what_is_read(
    first: dict[str, Any], then: dict[str, Any]
) -> None:
    text = edited(edited(None, first), then)

    assert tomllib.loads(text.decode()) == then


NUMBERS = [
    field
    for field in msgspec.structs.fields(Config)
    if isinstance(field.default, int | float) and field.default is not True and field.default is not False
]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
@pytest.mark.parametrize("value", [2**64, -(2**64), 10**400])
def test_every_number_has_bounds_and_is_told_by_name(tmp_path: Path, field: Any, value: int) -> None:
    with pytest.raises(UsageError, match=f"--{field.name.replace('_', '-')}: "):
        merged({}, {field.name: value}, tmp_path / "config.toml")
    with pytest.raises(UsageError, match=rf"config\.toml: {field.name}: "):
        merged({field.name: value}, {}, tmp_path / "config.toml")


@pytest.mark.parametrize("value", [2**64, -(2**64)])
def test_a_number_of_a_plug_in_that_no_file_can_hold_is_told_by_name(tmp_path: Path, value: int) -> None:
    config = Config(data=(str(tmp_path),), trust_options={"top_k": value})

    with pytest.raises(UsageError, match="--trust-option top_k"):
        checked(config)


@pytest.mark.parametrize("given", [{"seed": 2**64}, {"rounds": 2**64}])
def test_the_demo_has_bounds_too(given: dict[str, int]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, DemoOptions)
