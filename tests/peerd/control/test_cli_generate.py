"""`peerd generate` against a daemon that says what it was told, word by word (tests/support/view.py)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from p2pfinetune.speech import ChatLine
from peerd.cli import chat, generate_command, main, speaking
from peerd.control.questions import RespondQuestion


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


class Terminal:
    """Somebody who types, and may press Ctrl-C at the prompt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lines: list[str | type[BaseException]]) -> None:
        self._lines = iter(lines)
        monkeypatch.setattr("sys.stdin", self)
        monkeypatch.setattr("builtins.input", self.read)

    def isatty(self) -> bool:
        return True

    def read(self, prompt: str) -> str:
        assert prompt == chat.PROMPT
        line = next(self._lines, EOFError)
        if isinstance(line, str):
            return line
        raise line


def pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def chats(view: Any) -> list[list[str]]:
    return [[line.content for line in asked.chat] for asked in view.responses]


def test_a_text_is_continued_by_the_model_that_is_asked_for(daemon: Any, view: Any, say: Any) -> None:
    words = ("--which", "own", "--max-tokens", 2, "--temperature", 0, "--seed", 5)
    code, out, _ = say("generate", "Dear all together", *words, "--home", daemon.paths.home)

    assert (code, out) == (0, " Dear all\n")
    assert view.responses == [
        RespondQuestion(model="own", prompt="Dear all together", max_tokens=2, temperature=0.0, seed=5)
    ]


def test_it_is_written_as_it_is_said_and_nothing_of_it_moves_a_cursor(
    daemon: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr("sys.stdout.write", lambda text: written.append(text) or len(text))
    say("generate", "one \x1b[2Jtwo \u202ethree", "--home", daemon.paths.home)

    assert written == [" one", " \\x1b[2Jtwo", " \\u202ethree", "\n"]


def test_base_and_personal_are_compared_one_after_the_other_where_there_is_no_room(daemon: Any, say: Any) -> None:
    code, out, _ = say("generate", "Dear all", "--compare", "--home", daemon.paths.home)

    assert (code, out.split("\n")) == (0, ["base", " Dear all", "", "personal", " Dear all", "", ""])


def test_and_in_columns_that_grow_together_on_a_wide_terminal(
    daemon: Any, view: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_command, "is_rich", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    code, out, _ = say("generate", "Dear all", "--compare", "--home", daemon.paths.home)
    failed, _, err = say("generate", "fail", "--compare", "--home", daemon.paths.home)

    heading, text = (next(line for line in out.splitlines() if word in line) for word in ("base", "Dear"))
    assert code == 0
    assert heading.index("base") < heading.index("personal")
    assert text.count("Dear all") == 2
    assert sorted(asked.model for asked in view.responses[:2]) == ["base", "personal"]
    assert failed == 1
    assert "ran out of memory" in err


def test_a_text_may_come_from_standard_input(daemon: Any, view: Any, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "from a file")
    code, out, _ = say("generate", "-", "--home", daemon.paths.home)

    assert (code, out) == (0, " from a file\n")


def test_a_chat_from_a_pipe_answers_line_by_line_and_remembers(
    daemon: Any, view: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, "two three\n\nfour\n/reset\nfive\n/quit\nsix\n")
    code, out, err = say("generate", "one", "--chat", "--home", daemon.paths.home)

    assert (code, err) == (0, "")
    assert out == " one\n two three\n four\n five\n"
    assert chats(view) == [
        ["one"],
        ["one", " one", "two three"],
        ["one", " one", "two three", " two three", "four"],
        ["five"],
    ]
    assert view.responses[0].chat == (ChatLine("user", "one"),)
    assert view.responses[0].max_tokens == 256


def test_a_person_at_a_terminal_goes_on_after_a_failure_and_after_ctrl_c(
    daemon: Any, view: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = speaking.pieces

    def ctrl_c(*asked: Any) -> Any:
        for number, said in enumerate(heard(*asked)):
            if number == 3 and asked[3][-1].content == "forever":
                raise KeyboardInterrupt
            yield said

    monkeypatch.setattr(speaking, "pieces", ctrl_c)
    Terminal(monkeypatch, ["fail", "forever", "/help", "after", KeyboardInterrupt, "never"])
    code, out, err = say("generate", "--chat", "--which", "base", "--home", daemon.paths.home)

    assert code == 0
    assert "talking with the base model; /reset begins anew" in err
    assert "the worker ran out of memory; stop other programs" in err
    assert chats(view) == [["fail"], ["forever"], ["forever", " forever forever", "after"]]
    assert out == "\n forever forever\n after\n\n"


def test_nobody_at_a_pipe_is_left_with_a_failure(daemon: Any, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "fail\nnext\n")
    code, _, err = say("generate", "--chat", "--home", daemon.paths.home)
    pipe(monkeypatch, "x" * 40_000)
    long, _, told = say("generate", "--chat", "--home", daemon.paths.home)

    assert (code, long) == (1, 2)
    assert "ran out of memory" in err
    assert "a line of 40,000 characters is too long" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--chat", "--json"], "--json for programs"),
        (["--chat", "--compare"], "do not go together"),
        (["-", "--chat"], "reads its lines itself"),
        ([], "nothing to continue"),
        (["x", "--which", "mine"], "model"),
    ],
)
def test_what_does_not_go_together_is_told(daemon: Any, say: Any, words: list[str], said: str) -> None:
    code, _, err = say("generate", *words, "--home", daemon.paths.home)

    assert code == 2
    assert said in err


def test_the_document_is_what_it_was(daemon: Any, say: Any) -> None:
    code, out, err = say("generate", "Hi", "--max-tokens", 9, "--json", "--home", daemon.paths.home)

    assert (code, err) == (0, "")
    data = json.loads(out)["data"]
    assert (data["base"], data["personal"], data["served_by"]) == ("the the", "Hi personal 9", "personal")
