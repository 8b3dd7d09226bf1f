from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from peerd.control.panels import PANELS, Drawing, draw_all
from peerd.control.panels._base import BarChart, Series, Table, Words
from peerd.status import FailuresNow, TextNow

STATES = ("fresh", "alone", "some rounds", "broken", "strange numbers")


@pytest.fixture(params=STATES)
def moment(request: pytest.FixtureRequest, make_view: Any) -> Any:
    """What a panel may be asked to draw."""
    view = make_view(rounds=0 if request.param == "fresh" else 9, alone=request.param == "alone")
    status, rounds = view.status(), view.rounds(100)
    if request.param == "broken":
        view.broken, status = "the worker died three times", msgspec.structs.replace(view.status(), neighbours=[])
    if request.param == "strange numbers":
        nan = float("nan")
        rounds = [
            msgspec.structs.replace(r, guard_personal=nan, guard_own=900.0, loss_train=None, row={}) for r in rounds
        ]
    return status, rounds


@pytest.mark.parametrize("name", PANELS.names())
def test_every_panel_draws_every_moment_as_a_known_kind(name: str, moment: Any) -> None:
    drawn = PANELS.make(name).draw(*moment)

    assert isinstance(drawn, Words | BarChart | Series | Table)
    assert msgspec.json.decode(msgspec.json.encode(drawn), type=Drawing)


@pytest.mark.parametrize("name", PANELS.names())
def test_every_panel_has_a_title_a_place_and_an_explanation(name: str) -> None:
    panel = PANELS.make(name)

    assert panel.title
    assert isinstance(panel.order, int)
    assert panel.width in {"full", "half", "third"}
    assert "." in PANELS.help(name)
    assert dataclasses.is_dataclass(panel)


def test_tables_have_a_cell_for_every_column(moment: Any) -> None:
    for panel in draw_all(*moment):
        if isinstance(panel.drawing, Table):
            assert all(len(row) == len(panel.drawing.columns) for row in panel.drawing.rows)


def test_this_machine_says_in_which_numbers_it_trains_and_why(moment: Any) -> None:
    drawing = PANELS.make("machine").draw(*moment)

    assert [fact.value for fact in drawing.facts if fact.label == "trains in"] == ["bf16"]
    assert "Trained in bf16: as it was trained so far." in drawing.sentences


def test_the_page_counts_by_reason_what_of_the_text_is_not_used(make_view: Any) -> None:
    read = TextNow(files=3, documents=9, characters=900, skipped={"hidden": 2}, left_out={"base64": 5000})
    drawing = PANELS.make("text").draw(msgspec.structs.replace(make_view().status(), text=read), [])

    assert {fact.label: fact.value for fact in drawing.facts}["documents"] == 9
    assert drawing.sentences == ["Files and folders left out: hidden 2.", "Characters left out of files: base64 5000."]


def test_the_page_says_what_peerd_status_says_of_notices_failures_and_the_run_before(make_view: Any) -> None:
    status = msgspec.structs.replace(
        make_view(rounds=3).status(),
        notices=["This home was restored from a copy"],
        before="process 7 was killed or crashed",
        failures=FailuresNow(counts={"effect Publish": 2}, last="OSError: no\x1b room", last_seconds=61.0),
        turned_away={"negotiation": 3},
    )

    now, machine = (PANELS.make(name).draw(status, []) for name in ("state", "machine"))

    assert now.sentences[-2:] == [
        "This home was restored from a copy",
        "The run before this one did not end in order: process 7 was killed or crashed",
    ]
    assert [(fact.value, fact.tone) for fact in machine.facts if fact.label == "failed"] == [(2, "bad")]
    assert machine.sentences[-2] == (
        "Failed since the start: effect Publish 2; the last one, 1 min 1 s ago: OSError: no room."
    )
    assert machine.sentences[-1] == "Strangers on the network that were turned away: negotiation 3."


def test_panels_come_in_the_order_of_the_page_each_once(make_view: Any) -> None:
    view = make_view(rounds=3)
    drawn = draw_all(view.status(), view.rounds(10))

    assert drawn[0].name == "state"
    assert sorted(panel.name for panel in drawn) == sorted(PANELS.names())


def test_trust_over_time_is_stacked_to_one(make_view: Any) -> None:
    view = make_view(rounds=6)
    drawing = PANELS.make("trust-over-time").draw(view.status(), view.rounds(10))

    for heights in zip(*(line.points for line in drawing.lines), strict=True):
        assert sum(y for _, y in heights) == pytest.approx(1)


def test_the_bars_show_what_the_last_merge_took_me_first(make_view: Any) -> None:
    view = make_view(rounds=6)
    drawing = PANELS.make("trust-now").draw(view.status(), view.rounds(10))

    assert [bar.label for bar in drawing.bars] == ["alice (me)", "bob", "eve"]
    assert {bar.key: bar.value for bar in drawing.bars} == view.rounds(1)[0].row
    assert drawing.sentences[0].startswith("As the last merge was taken, in round 6 (")


def test_the_page_shows_a_row_that_was_not_taken_as_such_with_the_reason_and_since_when(make_view: Any) -> None:
    never = make_view()
    never.refuses = True
    for _ in range(7):
        never.finish_round()
    later = make_view(rounds=3)
    later.refuses = True
    later.finish_round()

    bars, once = (PANELS.make("trust-now").draw(view.status(), view.rounds(10)) for view in (never, later))
    areas = PANELS.make("trust-over-time").draw(never.status(), never.rounds(10))
    notes = [row[-1] for row in PANELS.make("peers").draw(never.status(), never.rounds(10)).rows]

    assert [(bar.label, bar.value) for bar in bars.bars] == [("alice (me)", 1.0)]
    assert bars.sentences[0].startswith("No merge was taken yet")
    assert "7 merges, were not taken, since round 1 (" in bars.sentences[1]
    assert {bar.key: bar.value for bar in once.bars} == later.rounds(2)[0].row
    assert "was not taken, since round 4 (" in once.sentences[1]
    assert [line.label for line in areas.lines] == ["alice (me)"]
    assert "in a merge that was not taken" in notes[0]


def test_the_page_says_what_its_figures_rest_on_and_that_they_contradict_one_another(make_view: Any) -> None:
    view = make_view(rounds=3)
    status = msgspec.structs.replace(
        view.status(), held_out=msgspec.structs.replace(view.status().held_out, contradiction="They contradict.")
    )

    now, perplexity, losses = (
        PANELS.make(name).draw(status, view.rounds(10)) for name in ("state", "perplexity", "losses")
    )

    assert "4,096 tokens of 17 documents" in now.sentences[0]
    assert now.sentences[1] == "They contradict."
    assert perplexity.sentences == [now.sentences[0]]
    (rests,) = losses.sentences
    assert "trust split: 2,048 tokens of 9 documents; guard split: 4,096 tokens of 17 documents" in rests


def test_refused_merges_are_marked_with_the_reason(make_view: Any) -> None:
    view = make_view(rounds=8)
    drawing = PANELS.make("losses").draw(view.status(), view.rounds(10))

    assert [(mark.x, mark.label) for mark in drawing.marks] == [(7, "merge refused: worse on the guard split")]


def test_the_page_says_which_model_is_served_and_whether_a_twin_trains(make_view: Any) -> None:
    view = make_view(rounds=3)
    view.served_by = "local"

    state, machine = (PANELS.make(name, {}).draw(view.status(), []) for name in ("state", "machine"))

    assert any("generate and export give the twin" in said for said in state.sentences)
    assert any("none trains" in said and "peerd start --twin on" in said for said in machine.sentences)


def test_the_twin_has_a_line_only_where_there_is_one(make_view: Any) -> None:
    view = make_view(rounds=4)
    with_twin = [msgspec.structs.replace(record, guard_twin=3.6) for record in view.rounds(10)]
    panel = PANELS.make("perplexity")

    assert "twin" not in {line.key for line in panel.draw(view.status(), view.rounds(10)).lines}
    assert "twin" in {line.key for line in panel.draw(view.status(), with_twin).lines}


def test_being_alone_says_what_to_type(make_view: Any) -> None:
    view = make_view(alone=True)
    drawing = PANELS.make("state").draw(view.status(), [])

    assert drawing.tone == "warn"
    assert "--bootstrap" in drawing.sentences[-1]


def test_a_large_history_is_drawn_within_a_blink(make_view: Any) -> None:
    view = make_view(rounds=500)
    drawn = draw_all(view.status(), view.rounds(500))

    assert len(msgspec.json.encode(drawn)) < 300_000
