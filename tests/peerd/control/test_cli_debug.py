"""`peerd debug`, against a daemon that is a fake behind the real interface."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peerd.cli import main


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_record_becomes_a_new_file_that_only_its_owner_reads(
    daemon: Any, say: Any, view: Any, tmp_path: Path
) -> None:
    file = tmp_path / "what.record"
    code, out, _ = say("debug", "record", file, "--home", daemon.paths.home)
    again, _, err = say("debug", "record", file, "--home", daemon.paths.home)

    assert (code, file.read_bytes(), file.stat().st_mode & 0o777) == (0, b"\x80a record", 0o600)
    assert f"python -m peerd.testing.replay {file}" in out
    assert (again, "is there already" in err) == (2, True)
    assert view.debugged == [("record", "")]


def test_a_story_is_told_line_by_line_and_one_of_nobody_is_said_to_be_none(daemon: Any, say: Any) -> None:
    _, told, _ = say("debug", "story", "bob", "--home", daemon.paths.home)
    _, nothing, _ = say("debug", "story", "carol", "--home", daemon.paths.home)
    code, _, err = say("debug", "story", "--home", daemon.paths.home)

    assert "PeerFound(peer bob)" in told
    assert nothing == "Nothing in the last 3 events names carol\n"
    assert (code, "a story is about a peer or a blob" in err) == (2, True)


def test_invariants_are_switched_on_and_off(daemon: Any, say: Any) -> None:
    _, on, _ = say("debug", "check", "--home", daemon.paths.home, "--json")
    _, off, _ = say("debug", "no-check", "--home", daemon.paths.home)

    assert json.loads(on)["data"]["checks"] is True
    assert "not looked at" in off


def test_another_action_is_named_with_those_there_are(daemon: Any, say: Any) -> None:
    code, _, err = say("debug", "explode", "--home", daemon.paths.home)

    assert (code, "'explode' is not one of record, story, check, no-check" in err) == (2, True)
