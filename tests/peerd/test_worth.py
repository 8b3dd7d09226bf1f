"""What collaboration is worth, in one sentence with intervals, and why if it is nothing: from the records alone."""

from collections import deque

import pytest

from p2pfinetune.names import PeerId, Round
from p2pfinetune.round.figures import LossMargin
from peerd.control import worth
from peerd.status import RoundRecord, SplitNow

ME, BEN = PeerId("12D3KooWme"), PeerId("12D3KooWben")
HALF, ALONE, UNTRUSTED = {ME: 0.5, BEN: 0.5}, {ME: 1.0}, {ME: 1.0, BEN: 0.0}


def ended(number, row=HALF, reason="", brought=-0.012, within=0.004, twin=None, readings=3.0, measured=True):
    guard = SplitNow(
        tokens=4096,
        documents=37,
        windows=40,
        against_base=LossMargin(nats=-0.2, within=0.03),
        against_twin=LossMargin(nats=twin, within=0.01) if twin is not None else None,
        against_own=LossMargin(nats=brought, within=within) if measured else None,
    )
    rest = {"finished_unix": 100.0 * number, "steps": 1, "bytes_in": 0, "bytes_out": 0}
    return RoundRecord(
        round=Round(number), row=row, accepted=not reason, reason=reason, on_guard=guard, readings=readings, **rest
    )


def now(records, has_twin=False):
    return worth.worth_now(deque(records), ME, has_twin=has_twin)


def test_one_sentence_says_how_much_better_than_the_base_than_alone_and_what_neighbours_brought():
    found = now([ended(i, twin=-0.06) for i in range(1, 9)], has_twin=True)

    assert found.sentence == (
        "On your own held-out text (4,096 tokens of 37 documents) the personal model's perplexity, with its 95 % "
        "interval: 18 % below the base model's (16 % to 21 %); 5.8 % below that of the twin that trains alone (4.9 % to "
        "6.8 %); neighbours brought it down by 1.2 % (0.8 % to 1.6 %) a round in the last 5 rounds."
    )
    assert (found.rounds, found.merges, found.why) == (5, 5, "")


def test_without_a_twin_it_says_that_training_alone_was_not_measured():
    assert "not measured against training alone (no twin)" in now([ended(1)]).sentence
    assert "training alone (no twin)" not in now([ended(1)], has_twin=True).sentence  # it has not parted yet


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([ended(1, ALONE, brought=0.0, within=0.0)], worth.NOBODY),
        ([ended(1, UNTRUSTED, brought=0.0, within=0.0)], worth.NOBODY_TRUSTED),
        ([ended(i, reason="worse-than-own", brought=0.0, within=0.0) for i in (1, 2)], worth.REFUSED),
        ([ended(1, brought=-0.002, within=0.03)], "4,096 tokens of 37 documents, is too small to tell less than 3 %"),
        ([ended(1, brought=-0.002, within=None)], "is too small to tell less than anything"),
        ([ended(1, brought=-0.001, within=0.004, readings=0.4)], "your own training has read"),
        ([ended(1, brought=-0.001, within=0.004)], worth.KNOWN),
    ],
)
def test_if_neighbours_bring_nothing_it_says_so_and_why(records, why):
    found = now(records)

    assert why.replace("your own training has read", "own training has read it 0.4 times") in found.why
    assert "neighbours brought nothing that can be seen" in found.sentence
    assert found.why in found.sentence


def test_a_return_to_the_best_adapter_is_not_told_as_what_neighbours_brought():
    returned = ended(2, reason="returned-to-best", brought=-0.5)

    assert now([returned]).brought == LossMargin(nats=0.0, within=0.0)
    assert now([ended(1, brought=-0.02, within=0.01), returned]).brought == LossMargin(nats=-0.01, within=0.005)


def test_a_merge_on_credit_that_raised_the_loss_is_told_as_that():
    assert (
        "merging raised it by 1.5 % (1.0 % to 2.0 %) a round" in now([ended(1, brought=0.015, within=0.005)]).sentence
    )


def test_of_rounds_that_an_older_version_recorded_nothing_is_claimed():
    assert now([]).sentence == ""
    found = now([ended(1, measured=False)])
    assert found.brought is None
    assert "neighbours" not in found.sentence
