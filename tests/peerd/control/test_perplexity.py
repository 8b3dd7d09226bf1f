"""A diverged loss is one number and one word, wherever it is told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.scoring.perplexity import DIVERGED, MAX_LOSS, MAX_PERPLEXITY, bounded, perplexity
from peerd import Client
from peerd.cli import main
from peerd.control.answers import TestLosses
from peerd.control.panels import draw_all
from peerd.control.render import written
from peerd.control.words import verdict
from peerd.status import PerplexityNow

FORMAT_JS = Path(__file__).parents[3] / "peerd/control/web/format.js"


@given(st.floats())
def test_every_loss_is_told_as_a_number_that_json_keeps(loss: float) -> None:
    for told in (bounded(loss), perplexity(loss)):
        assert msgspec.json.decode(msgspec.json.encode(told)) == told
        assert math.isfinite(told)


@given(st.floats(min_value=0))
def test_a_loss_and_its_perplexity_are_called_diverged_together(loss: float) -> None:
    words = {written(bounded(loss), "loss") == DIVERGED, written(perplexity(loss), "perplexity") == DIVERGED}

    assert words == {loss >= MAX_LOSS}


@pytest.mark.parametrize("loss", [math.inf, -math.inf, math.nan, 300.0, 1e308, MAX_LOSS])
def test_what_tells_nothing_is_diverged_and_not_missing(loss: float) -> None:
    assert (bounded(loss), perplexity(loss)) == (MAX_LOSS, MAX_PERPLEXITY)


def test_what_was_not_measured_is_neither() -> None:
    assert bounded(None) is None
    assert perplexity(None) is None
    assert written(perplexity(None), "perplexity") != DIVERGED


@pytest.mark.parametrize("loss", [math.nan, math.inf, 300.0])
def test_terminal_document_and_page_say_the_same_of_a_diverged_round(
    daemon: Any, view: Any, capsys: pytest.CaptureFixture[str], loss: float
) -> None:
    last = msgspec.structs.replace(view._rounds[-1], guard_personal=bounded(loss))
    view._rounds[-1] = last
    main(["rounds", "--home", str(daemon.paths.home)])
    table = capsys.readouterr().out
    main(["rounds", "--json", "--home", str(daemon.paths.home)])
    document = msgspec.json.decode(capsys.readouterr().out)
    drawn = {panel.name: panel.drawing for panel in draw_all(view.status(), view.rounds(99))}
    line = next(line for line in drawn["perplexity"].lines if line.key == "personal")

    assert table.count(DIVERGED) == 1
    assert document["data"]["rounds"][-1]["guard_personal"] == MAX_LOSS
    assert line.points[-1][1] == MAX_PERPLEXITY


@pytest.mark.parametrize("loss", [math.nan, math.inf, 300.0])
def test_the_test_losses_of_a_diverged_model_are_an_answer_that_clients_read(
    daemon: Any, view: Any, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    async def test_losses() -> TestLosses:
        return TestLosses(base=4.2, own=loss, personal=loss, local=None, served=loss, documents=12, tokens=2048)

    monkeypatch.setattr(view, "test_losses", test_losses)
    with Client(daemon.paths.home) as client:
        found = client.test()

    assert (found.base, found.own, found.personal, found.local) == (4.2, MAX_LOSS, MAX_LOSS, None)
    assert found.served == MAX_LOSS


def test_the_page_has_the_same_bound_and_the_same_word() -> None:
    assert f'const MAX_LOSS = {MAX_LOSS:.0f}, DIVERGED = "{DIVERGED}";' in FORMAT_JS.read_text()


def test_a_diverged_model_is_not_compared(view: Any) -> None:
    now = msgspec.structs.replace(view.status(), perplexity=PerplexityNow(base=80.0, personal=MAX_PERPLEXITY))

    assert verdict(now) == "The model has diverged: it predicts your own held-out text worse than chance."


def test_the_twin_has_a_column_and_a_merge_without_anybody_is_with_nobody(
    home: Path, make_view: Any, serve_view: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from peerd.machine.paths import Paths

    with serve_view(Paths.of(home), make_view(rounds=2, alone=True)):
        main(["rounds", "--home", str(home)])
    head, *rows = capsys.readouterr().out.rstrip().split("\n")

    assert head.split().count("twin") == 1
    assert [row.split()[-1] for row in rows] == ["nobody", "nobody"]
    assert "alone" not in "".join(rows)
