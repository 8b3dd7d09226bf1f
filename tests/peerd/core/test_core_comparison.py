"""What the updates of one merge said of each other: outliers are counted and set aside, copies are told."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.names import PeerId
from peerd.core import effects as do
from peerd.core.limits import BAN_AT

ONE, TWO = PeerId("peer-one"), PeerId("peer-two")


@pytest.fixture
def play(playbook: Any) -> Any:
    """A merge of two neighbours' updates is under way; the second was heard later."""
    play = playbook()
    play.worker()
    play.connect("peer-one")
    play.connect("peer-two")
    play.receive("peer-one")
    play.at += 5.0
    play.receive("peer-two")
    play.to_collecting()
    assert {c.peer for effect in play.wanted(do.Collaborate) for c in effect.candidates} == {ONE, TWO}
    return play


def merged(play: Any, **fields: Any) -> None:
    play.collaborated(row={play.node.me: 0.5, ONE: 0.25, TWO: 0.25}, **fields)


def test_an_outlier_is_counted_and_its_update_used_no_more(play: Any) -> None:
    merged(play, refused={TWO: "norm-outlier"})

    assert do.CountRefusal(peer=TWO, reason="norm-outlier") in play.effects
    assert play.node.neighbours[TWO].refused == {"norm-outlier": 1}
    assert play.node.neighbours[TWO].admitted is None
    assert play.wanted(do.Forget) == [do.Forget(digests=(play.said("peer-two").blob,))]
    assert not play.wanted(do.Fetch)
    assert play.node.neighbours[ONE].admitted is not None


def test_the_next_update_of_an_outlier_is_heard(play: Any) -> None:
    merged(play, refused={TWO: "norm-outlier"})

    play.hear("peer-two", 2)

    assert [fetch.peer for fetch in play.wanted(do.Fetch)] == [TWO]


def test_an_update_that_came_during_the_merge_is_not_set_aside_for_the_one_before(play: Any) -> None:
    play.receive("peer-two", 2)
    merged(play, refused={TWO: "norm-outlier"})

    assert play.node.neighbours[TWO].admitted.order == (1, 2)


def test_a_veteran_among_newcomers_is_not_banned_for_it(play: Any) -> None:
    for number in range(2, 40):
        merged(play, refused={TWO: "norm-outlier"})
        play.at += 10.0
        play.receive("peer-one", number)
        play.receive("peer-two", number)
        play.to_collecting()

    assert play.node.standings[TWO].offences < BAN_AT
    assert not play.node.standings[TWO].bans


def test_of_two_copies_the_later_one_is_told_to_be_the_copy(play: Any) -> None:
    merged(play, copies=((ONE, TWO),))

    assert play.node.neighbours[TWO].copy_of == ONE
    assert play.node.neighbours[ONE].copy_of is None
    assert not play.node.standings


def test_who_says_its_update_again_is_not_told_to_be_the_copy_of_who_copied_it_meanwhile(play: Any) -> None:
    play.hear("peer-one", 2, after=5.0, blob=play.said("peer-one", 1).blob)  # it was started again, or has moved
    merged(play, copies=((ONE, TWO),))

    assert play.node.neighbours[ONE].copy_of is None
    assert play.node.neighbours[TWO].copy_of == ONE


def test_an_outlier_that_says_its_update_again_during_the_merge_is_set_aside_all_the_same(play: Any) -> None:
    play.hear("peer-two", 2, blob=play.said("peer-two", 1).blob)
    merged(play, refused={TWO: "norm-outlier"})

    assert play.node.neighbours[TWO].admitted is None


def test_who_copies_me_is_told(play: Any) -> None:
    merged(play, copies=((play.node.me, ONE),))

    assert play.node.neighbours[ONE].copy_of == play.node.me


def test_who_copies_no_more_is_told_no_more(play: Any) -> None:
    merged(play, copies=((ONE, TWO),))
    play.receive("peer-one", 2)
    play.receive("peer-two", 2)
    play.to_collecting()
    merged(play)

    assert play.node.neighbours[TWO].copy_of is None


def test_a_comparison_that_names_strangers_does_no_harm(play: Any) -> None:
    merged(play, copies=((PeerId("x"), PeerId("y")), (PeerId("x"), ONE)), refused={PeerId("x"): "norm-outlier"})

    assert play.node.neighbours[ONE].copy_of is None
