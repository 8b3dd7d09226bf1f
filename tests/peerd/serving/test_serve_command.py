"""The command `peerd serve`: what it prints, and where it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.system import interpreter
from peerd.cli import main
from peerd.control.client import Client
from peerd.machine.paths import Paths
from tests.support.view import FakeView


@pytest.fixture
def say(fresh: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command with what it would serve by; it ends at once."""
    ran: list[dict[str, Any]] = []

    def run(paths: Paths, **given: Any) -> None:
        ran.append(given)
        given["opened"](0 if given["socket"] else given["port"])

    monkeypatch.setattr("peerd.serving.run.run", run)

    def asked(*words: str) -> tuple[int, str, dict[str, Any]]:
        code = main(["serve", *words, "--home", str(fresh.home)])
        return code, capsys.readouterr().out, ran[-1] if ran else {}

    return asked


def test_the_key_is_said_when_it_is_made_and_when_it_is_asked_for(say: Any, fresh: Paths) -> None:
    fresh.prepare()
    (code, first, ran), (_, second, _), (_, third, _) = say(), say(), say("--show-key")

    assert (code, ran["port"], ran["socket"]) == (0, 11435, None)
    assert f"Key: {ran['key']}" in first
    assert ran["key"] not in second
    assert f"peerd serve --home {fresh.home} --show-key" in second
    assert f"Key: {ran['key']}" in third
    assert "http://127.0.0.1:11435/v1" in first
    assert "There is nobody to answer yet" in first


def test_it_says_what_answers_and_that_nano_is_none_to_talk_to(say: Any, fresh: Paths, daemon_of: Any) -> None:
    with daemon_of(fresh, FakeView()):
        _, out, ran = say("--no-key", "--port", "5")

    assert "nano, the embedded model, is one to measure with, not to talk to" in out
    assert "No key is asked for" in out
    assert (ran["key"], ran["port"]) == (None, 5)


def test_as_a_document_it_names_the_file_of_the_key(say: Any, fresh: Paths) -> None:
    fresh.prepare()
    _, out, ran = say("--json")
    found = json.loads(out)["data"]
    _, again, _ = say("--json")
    _, socket, ran_at = say("--json", "--socket", str(fresh.home / "s"))

    assert (found["url"], found["port"], found["key"]) == ("http://127.0.0.1:11435", 11435, ran["key"])
    assert Path(found["key_file"]).read_text().strip() == ran["key"]
    assert json.loads(again)["data"]["key"] == ""
    assert json.loads(socket)["data"] | {"models": []} == {
        "url": "", "port": None, "socket": str(fresh.home / "s"), "key_file": "", "key": "", "models": []
    }  # fmt: skip
    assert ran_at["key"] is None


def test_where_no_daemon_was_ever_started_there_is_nothing_to_serve(say: Any, fresh: Paths) -> None:
    assert say()[0] == 3
    assert not fresh.home.exists()


@pytest.mark.slow
def test_the_process_ends_in_order_at_ctrl_c_and_a_port_that_is_taken_is_bad_usage(
    fresh: Paths, daemon_of: Any
) -> None:
    command = interpreter.command("-m", "peerd", "serve", "--home", str(fresh.home), "--json")
    with daemon_of(fresh, FakeView()):
        with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None
            told = "".join(iter(first.stdout.readline, "}\n")) + "}"
            port = json.loads(told)["data"]["port"]
            second = subprocess.run([*command, "--port", str(port)], capture_output=True, text=True, check=False)
            first.send_signal(signal.SIGINT)
            code = first.wait(20)
        with Client(fresh.home) as client:
            assert client.status().name == "alice"

    assert (code, second.returncode) == (0, 2)
    assert f"cannot use port {port}" in second.stderr
