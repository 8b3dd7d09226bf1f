"""Who is asked for a gradient and who is answered: by lots, one at a time, bounded, and nothing waits for it."""

from __future__ import annotations

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import MAX_MIDDLE_TRIES, MIDDLE_ANSWERS_BURST, MIDDLE_GRACE_SECONDS, NO_MIDDLE_SECONDS
from peerd.core.phases import Collecting, Merging

ONE, TWO = PeerId("peer-one"), PeerId("peer-two")


@pytest.fixture
def met(playbook):
    """In its second round, with two connected neighbours whose updates it holds; a pair always meets."""
    book = playbook()
    book.worker(pairing=1.0)
    for peer in (ONE, TWO):
        book.connect(peer)
        book.receive(peer)
    book.to_collecting()
    return book


def ask(book, number, peer=ONE, **fields):
    usual = {"mine": book.node.neighbours[peer].admitted.digest, "yours": book.node.own.blob}
    return book.tell(on.MiddleAsked, peer=peer, number=number, **(usual | fields))


def reason(book):
    return [effect.reason for effect in book.wanted(do.RefuseMiddle)]


def test_one_after_the_other_is_asked_and_the_next_merge_takes_what_has_come(met):
    assert isinstance(met.node.phase, Merging)  # it waited for nobody's gradient
    first = met.node.meeting
    assert {first.mine.digest, first.theirs.digest} == {met.node.own.blob, met.said(first.peer).blob}

    met.tell(on.MiddleCompared, number=first.number, product=0.25)
    second = met.wanted(do.AskMiddle)[0]
    met.tell(on.MiddleCompared, number=second.number, product=-0.5)

    assert met.wanted(do.AskMiddle) == []
    assert met.node.products == {first.peer: 0.25, second.peer: -0.5}
    met.collaborated()
    assert len(met.node.products) == 2  # they came while that merge ran
    for peer in (ONE, TWO):
        met.receive(peer, 2)
    met.to_collecting()
    assert met.node.phase.products == {first.peer: 0.25, second.peer: -0.5}
    met.collaborated()
    assert met.node.products == {}


def test_a_merge_that_fails_uses_nothing_up(met):
    met.tell(on.MiddleCompared, number=met.node.meeting.number, product=0.25)
    met.collaborated()
    met.receive(ONE, 2)
    met.receive(TWO, 2)
    met.to_collecting()

    met.tell(on.CollaborationFailed, round=met.node.round, reason="no")

    assert list(met.node.products.values()) == [0.25]


def test_a_scheme_that_asks_nobody_asks_nobody_and_says_so_to_who_asks(playbook):
    book = playbook()
    book.worker()
    book.connect()
    book.receive()
    book.to_collecting()
    assert book.node.meeting is None

    ask(book, 1)

    assert reason(book) == ["not-chosen"]
    assert book.node.refused == {"middle-not-chosen": 1}
    assert book.node.standings == {}


def test_pairs_meet_as_often_as_the_chance_says(playbook):
    asked = 0
    for number in range(40):
        book = playbook(secret=str(number))
        book.worker(pairing=0.0)
        book.connect()
        book.receive()
        book.to_collecting()
        asked += book.node.meeting is not None

    assert 10 <= asked <= 30  # one in two: me and one neighbour


def test_a_collecting_deadline_is_never_moved_by_a_question(playbook):
    book = playbook(collect_seconds=30.0)
    book.worker(pairing=1.0)
    for peer in (ONE, TWO):
        book.connect(peer)
        book.hear(peer)
    book.fetched(ONE)
    book.admitted(ONE)
    book.to_collecting()
    assert isinstance(book.node.phase, Collecting)
    deadline = book.node.phase.deadline
    assert book.node.meeting is not None

    book.tick(29.0)
    assert book.node.phase.deadline == deadline
    book.tick(1.5)

    assert isinstance(book.node.phase, Merging)


def test_who_does_not_take_part_is_left_alone_for_an_hour_and_people_are_told(met):
    peer = met.node.meeting.peer
    met.tell(on.MiddleFailed, number=met.node.meeting.number, reason="not-chosen")

    assert [note.peer for note in met.wanted(do.Note)] == [peer]
    assert met.node.neighbours[peer].meet_not_before == met.at + NO_MIDDLE_SECONDS


def test_who_is_busy_is_asked_again_some_times_and_a_lie_is_held_against_its_peer(met):
    met.tell(on.MiddleFailed, number=met.node.meeting.number, reason="malformed")
    assert met.node.refused == {"middle-malformed": 1}
    tries = 0
    for _ in range(10):
        if met.node.meeting is not None:
            tries += 1
            met.tell(on.MiddleFailed, number=met.node.meeting.number, reason="busy")
        met.tick(6.0)

    assert tries == MAX_MIDDLE_TRIES


def test_an_answer_that_never_comes_holds_nobody_up(met):
    number = met.node.meeting.number

    met.tick(MIDDLE_GRACE_SECONDS + 1)

    assert met.node.meeting is None or met.node.meeting.number > number
    assert met.tell(on.MiddleCompared, number=number, product=1.0) == []
    assert met.node.products == {}


def test_one_question_of_others_is_worked_on_at_a_time_and_each_middle_once(met):
    ask(met, 1)
    (answer,) = met.wanted(do.AnswerMiddle)
    assert (answer.number, answer.mine.digest) == (1, met.node.own.blob)
    ask(met, 2, TWO)
    assert reason(met) == ["busy"]

    met.tell(on.MiddleAnswered, number=1)
    ask(met, 3)
    assert reason(met) == ["again"]
    ask(met, 4, TWO)

    assert met.wanted(do.AnswerMiddle)[0].peer == TWO


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"mine": Digest("f" * 64)}, "absent"), ({"yours": Digest("f" * 64)}, "absent"), ({}, "")],
)
def test_a_middle_of_what_is_not_held_is_refused_with_a_word(met, fields, expected):
    ask(met, 1, **fields)

    assert reason(met) == ([expected] if expected else [])


def test_who_is_not_connected_gets_nothing_and_a_crowd_of_middles_is_bounded(met):
    met.tell(on.PeerDisconnected, peer=ONE)
    ask(met, 1)
    assert reason(met) == ["busy"]

    answered = 0
    for number in range(2, 40):
        met.receive(TWO, number)
        ask(met, number, TWO)
        answered += len(met.wanted(do.AnswerMiddle))
        met.tell(on.MiddleAnswered, number=number)

    assert answered == MIDDLE_ANSWERS_BURST


def test_blobs_of_a_middle_stay_until_it_is_over(met):
    old = met.node.meeting.theirs.digest
    met.collaborated()
    met.receive(met.node.meeting.peer, 2)

    assert all(old not in effect.digests for effect in met.wanted(do.Forget))
    met.tell(on.MiddleCompared, number=met.node.meeting.number, product=0.1)
    met.tick()

    assert met.node.round == Round(2)
