"""The command line of the rendezvous node: bad usage is told as everything else is."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootstrap.cli import run
from p2pfinetune.system import interpreter


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


def started(home: Path, *words: str) -> subprocess.Popen[str]:
    listen = ("--listen", "/ip4/127.0.0.1/tcp/0")
    command = [*interpreter.command("-m", "bootstrap"), "start", "--home", str(home), *listen, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(node: subprocess.Popen[str]) -> tuple[int, str]:
    node.send_signal(signal.SIGTERM)
    _, said = node.communicate(timeout=60)
    return node.returncode, said


def test_a_reader_of_one_line_does_not_end_the_node_and_a_new_id_is_told_once(tmp_path: Path) -> None:
    node = started(tmp_path)
    assert node.stdout is not None
    assert "--bootstrap" in node.stdout.readline()
    node.stdout.close()  # as `| head -1` does
    node.stdout = None
    with pytest.raises(subprocess.TimeoutExpired):
        node.wait(1.0)
    first, said = ended(node)

    node = started(tmp_path, "--json")
    assert node.stdout is not None
    shown = json.loads(node.stdout.readline())["data"]
    again, silent = ended(node)

    assert (first, again) == (0, 0)
    assert "the id of this node is new" in said
    assert str(tmp_path / "identity") in said
    assert "is new" not in silent
    assert shown["is_new_identity"] is False
