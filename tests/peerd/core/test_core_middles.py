"""Who is asked for a gradient and who is answered: by lots, one at a time, bounded, and nothing waits for it."""

from __future__ import annotations

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import (
    MAX_MIDDLE_REST_SECONDS,
    MAX_MIDDLE_TRIES,
    MIDDLE_ANSWERS_BURST,
    MIDDLE_ANSWERS_BURST_OF_ONE,
    MIDDLE_GRACE_SECONDS,
    MIDDLE_PAUSE_SECONDS,
    MIDDLE_REST,
    NO_MIDDLE_SECONDS,
    THROTTLE_AT,
)
from peerd.core.offences import Standing, offended
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
    assert book.node.standings[ONE].offences < 0.1  # who asks cannot know it


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
    met.tell(on.MiddleFailed, number=met.node.meeting.number, reason="oversize")
    assert met.node.refused == {"middle-oversize": 1}
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

    answered = dict.fromkeys((PeerId(f"peer-{place}") for place in range(8)), 0)
    for peer in answered:
        met.connect(peer)
        for number in range(2, 6):
            met.receive(peer, number)
            ask(met, number, peer)
            answered[peer] += len(met.wanted(do.AnswerMiddle))
            met.tell(on.MiddleAnswered, number=number)

    assert sum(answered.values()) == MIDDLE_ANSWERS_BURST
    assert max(answered.values()) == MIDDLE_ANSWERS_BURST_OF_ONE  # so one alone takes no other's


def test_no_middle_is_told_twice_by_asking_for_another_in_between(met):
    older = met.node.own.blob
    ask(met, 1)
    met.tell(on.MiddleAnswered, number=1)
    met.collaborated()
    met.to_collecting()
    assert met.node.own_before[0] == older
    met.tick(MIDDLE_GRACE_SECONDS)
    ask(met, 2)
    met.tell(on.MiddleAnswered, number=2)
    met.tick(MIDDLE_GRACE_SECONDS)

    for number in range(3, 7):
        ask(met, number, yours=older if number % 2 else met.node.own.blob)
        assert reason(met) == ["again"]


def test_who_has_a_slow_worker_gives_others_a_fifth_of_it_at_most(met):
    ask(met, 1)
    met.tick(50.0)
    met.tell(on.MiddleAnswered, number=1)

    met.tick(MIDDLE_REST * 50.0 - 1.0)
    ask(met, 2, TWO)
    assert reason(met) == ["busy"]
    met.tick(2.0)
    ask(met, 3, TWO)
    assert len(met.wanted(do.AnswerMiddle)) == 1

    met.tick(MIDDLE_GRACE_SECONDS + 1.0)  # the worker has it still
    assert met.node.answering is None
    assert met.node.answers_not_before == met.at + MAX_MIDDLE_REST_SECONDS


def test_whoever_lets_me_wait_keeps_me_from_nobody_else(met):
    slow = met.node.meeting.peer
    met.tick(100.0)
    met.tell(on.MiddleFailed, number=met.node.meeting.number, reason="busy")
    other = met.node.meeting
    assert other.peer != slow
    met.tell(on.MiddleCompared, number=other.number, product=0.5)

    met.tick(999.0)
    assert met.node.meeting is None
    met.tick(2.0)
    assert met.node.meeting.peer == slow


def test_who_was_asked_longest_ago_is_asked_next(met):
    first = met.node.meeting.peer
    met.collaborated()
    for peer in (ONE, TWO):
        met.receive(peer, 2)
    met.to_collecting()
    met.tell(on.MiddleCompared, number=met.node.meeting.number, product=0.5)

    assert met.node.meeting.peer != first


@pytest.mark.parametrize("word", ["absent", "not-chosen", "busy"])
def test_a_flood_of_questions_is_banned_and_who_asks_as_peerd_does_never_throttled(word):
    flood = patient = Standing()
    for number in range(1200):
        flood = offended(flood, 0.01 * number, f"middle-{word}")
        patient = offended(patient, MIDDLE_PAUSE_SECONDS * number, f"middle-{word}")

    assert flood.bans == 1
    assert patient.offences < THROTTLE_AT / 2


def test_blobs_of_a_middle_stay_until_it_is_over(met):
    old = met.node.meeting.theirs.digest
    met.collaborated()
    met.receive(met.node.meeting.peer, 2)

    assert all(old not in effect.digests for effect in met.wanted(do.Forget))
    met.tell(on.MiddleCompared, number=met.node.meeting.number, product=0.1)
    met.tick()

    assert met.node.round == Round(2)
