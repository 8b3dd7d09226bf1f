"""`peerd eval`: which text it is about, what is told of it, and that the test split is asked once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.names import Round
from p2pfinetune.round.figures import LossMargin, ModelFigures
from peerd.cli import main
from peerd.cli.eval_command import sentences
from peerd.control.answers import Evaluated, Look
from peerd.status import TextNow


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def found(**given: Any) -> Evaluated:
    margin = LossMargin(nats=-0.2, within=0.05)
    figures = ModelFigures(loss=3.0, within=0.1, against_base=margin)
    usual = {"on": "files", "served_by": "personal", "tokens": 900, "documents": 9, "windows": 9}
    models = {"base": ModelFigures(loss=3.2, within=0.1), "served": figures}
    return Evaluated(**{**usual, "models": models, "of_tokens": 900, "of_documents": 9, **given})


def test_each_model_is_told_with_its_interval_and_beside_the_base(daemon: Any, say: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    code, out, _ = say("eval", tmp_path / "letter.txt", "--home", daemon.paths.home)

    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "66.69" in rows["base"]
    assert "29.96       27.11 to 33.12  -55 %" in rows["personal"]
    assert "What is served, the personal model: perplexity 55 % below the base model's (53 % to 57 %)." in out


def test_as_a_document_it_has_every_figure(daemon: Any, say: Any) -> None:
    code, out, _ = say("eval", "--on", "heldout", "--json", "--home", daemon.paths.home)

    data = json.loads(out)["data"]
    assert (code, data["on"], data["models"]["own"]["loss"]) == (0, "heldout", 3.4)
    assert len(data["looks"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to measure on"),
        (("--on", "train"), "there is only --on heldout"),
        (("--on", "heldout", "x.txt"), "two questions"),
        (("no such file",), "there is no file or folder no such file"),
        (("--on", "heldout", "--max-tokens", "-1"), "max-tokens"),
    ],
)
def test_a_question_that_is_not_clear_is_refused_with_what_to_type(
    daemon: Any, say: Any, words: tuple[str, ...], message: str
) -> None:
    code, _, err = say("eval", *words, "--home", daemon.paths.home)

    assert code == 2
    assert message in err


def test_text_that_was_trained_on_is_said_to_flatter() -> None:
    told = " ".join(sentences(found(known={"train": 3, "test": 1}, text=TextNow(files=1, documents=9, characters=99))))

    assert "3 of 9 documents are in your training text, word for word: these figures flatter." in told
    assert "Read: 9 documents from 1 file, 99 characters." in told
    assert "flatter" not in " ".join(sentences(found(known={"test": 4})))


def test_the_test_split_says_that_it_has_been_looked_at_and_how_often() -> None:
    looks = [Look(unix=0.0, round=Round(4)), Look(unix=9.0, round=Round(6))]

    (*_, first) = sentences(found(on="heldout", looks=looks[:1]))
    (*_, kept) = sentences(found(on="heldout", looks=looks[:1], is_kept=True))
    (*_, again) = sentences(found(on="heldout", looks=looks))

    assert first.startswith("Your test split has now been looked at.")
    assert kept.startswith("Nothing was measured: these are the figures of the first look, in round 4")
    assert again.startswith("This split has been looked at 2 times")
