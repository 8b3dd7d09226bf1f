"""The command line of the rendezvous node: bad usage is told as everything else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bootstrap.cli import run


@pytest.mark.parametrize("words", [["start", "--nonsense"], ["nonsense"], ["start", "extra"]])
def test_bad_usage_is_2_and_a_document_with_json(capsys: Any, words: list[str]) -> None:
    code = run([*words, "--json"])
    out, err = capsys.readouterr()
    found = json.loads(out)

    assert code == 2
    assert (found["status"], found["error"]["code"]) == ("error", "usage")
    assert found["error"]["message"] in err
    assert "peerd-bootstrap start --help" in err


def test_a_key_that_cannot_be_read_is_a_document_with_json(capsys: Any, tmp_path: Any) -> None:
    code = run(["start", "--group-key", str(tmp_path / "none"), "--home", str(tmp_path), "--json"])

    assert code == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_without_a_word_it_prints_its_help(capsys: Any) -> None:
    assert run([]) == 2
    assert "peerd-bootstrap" in capsys.readouterr().out
