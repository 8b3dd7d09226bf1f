"""How far a figure carries, in words: what it rests on, its interval, and two splits that contradict one another."""

import math

import pytest

from p2pfinetune.round.figures import LossMargin, SplitFigures
from peerd.control import figures


def held_out(nats, within=0.05, **more):
    return SplitFigures(tokens=2048, documents=12, windows=9, against_base=LossMargin(nats=nats, within=within), **more)


def test_a_figure_says_on_how_many_tokens_and_documents_it_rests():
    assert figures.rests_on(held_out(0.0)) == "2,048 tokens of 12 documents"
    assert figures.rests_on(SplitFigures(tokens=1, documents=1, windows=1)) == "1 token of 1 document"


@pytest.mark.parametrize(
    ("nats", "within", "said"),
    [
        (math.log(0.79), 0.05, "21 % below the base model's (17 % to 25 %)"),
        (math.log(1.3), 0.05, "30 % ABOVE the base model's (24 % to 37 %)"),
        (-0.02, 0.05, "no difference that can be seen from the base model's (6.8 % below to 3.0 % ABOVE)"),
        (-2.0, None, "not to be told from the base model's by one document"),
        (0.0, 0.0, "the same as the base model's"),
    ],
)
def test_a_difference_is_told_with_its_interval_and_as_none_where_that_holds_zero(nats, within, said):
    assert figures.compared(LossMargin(nats=nats, within=within), "the base model's") == said


def test_a_table_has_room_for_less():
    assert figures.briefly(LossMargin(nats=math.log(0.79), within=0.05)) == "-21 %"
    assert figures.briefly(LossMargin(nats=0.01, within=0.05)) == "none to be seen"
    assert figures.briefly(None) == ""


def test_held_out_splits_that_contradict_one_another_are_told_which_fell_and_which_rose():
    said = figures.contradiction(held_out(-1.6), held_out(0.2))

    assert "fell on the trust split (80 % below) and rose on the guard split (22 % ABOVE)" in said
    assert "fell on the guard split" in figures.contradiction(held_out(0.2), held_out(-1.6))


@pytest.mark.parametrize(
    ("trust", "guard"),
    [
        (held_out(-1.6), held_out(-0.2)),
        (held_out(-1.6), held_out(0.04)),  # rose, by less than its interval
        (held_out(0.2), held_out(-0.04)),
        (held_out(-1.6), held_out(0.2, within=None)),
        (held_out(-1.6), SplitFigures(tokens=9, documents=1, windows=1)),
        (None, held_out(0.2)),
    ],
)
def test_splits_that_agree_or_of_which_one_says_nothing_contradict_nobody(trust, guard):
    assert figures.contradiction(trust, guard) == ""
