"""A newcomer gathers, assembles once, and then trains; it is held up by nobody for longer than it was told."""

from __future__ import annotations

import pytest

from p2pfinetune.names import PeerId, Round
from p2pfinetune.round.figures import RoundFigures
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import GATHER_SECONDS, MAX_MERGE_DEATHS
from peerd.core.outlook import next_deadline, sentence, state
from peerd.core.phases import Assembling, Gathering, Training
from peerd.core.state import needed

ONE, TWO = PeerId("peer-one"), PeerId("peer-two")


@pytest.fixture
def newcomer(playbook):
    def make(**fields):
        book = playbook(**({"assemble": True, "assemble_seconds": 60.0} | fields))
        book.worker(is_new=True)
        return book

    return make


def test_it_assembles_of_what_came_once_nobody_is_to_come(newcomer):
    book = newcomer()
    assert state(book.node) == "gathering"
    assert next_deadline(book.node) == book.at + 60.0
    book.connect(ONE)
    book.connect(TWO)
    book.receive(ONE)
    book.hear(TWO)
    book.tick(GATHER_SECONDS)
    assert isinstance(book.node.phase, Gathering)  # the second is on its way

    book.fetched(TWO)
    book.admitted(TWO)
    book.tick(GATHER_SECONDS - 1)
    assert not book.wanted(do.Assemble)
    book.tick(1)

    (effect,) = book.wanted(do.Assemble)
    assert {one.peer for one in effect.candidates} == {ONE, TWO}
    assert {one.digest for one in effect.candidates} <= needed(book.node)
    assert "assembling" in sentence(book.node)
    figures = RoundFigures(guard_personal=2.5)
    book.tell(on.Assembled, row={ONE: 0.75, TWO: 0.25}, accepted=True, figures=figures)
    assert isinstance(book.node.phase, Training)
    assert book.wanted(do.Train)[0].round == 1
    assert (book.node.row, book.node.best) == ({ONE: 0.75, TWO: 0.25}, 2.5)


def test_as_many_as_are_ever_merged_are_enough(newcomer):
    book = newcomer(max_neighbours=1)
    book.connect(ONE)
    book.receive(ONE)

    assert isinstance(book.node.phase, Assembling)


def test_what_it_is_made_of_stays_on_disk_though_newer_ones_come(newcomer):
    book = newcomer(max_neighbours=1)
    book.connect(ONE)
    book.receive(ONE)
    first = book.node.phase.digests

    book.receive(ONE, 2)

    assert set(first) <= needed(book.node)
    assert not book.wanted(do.Forget)
    book.tell(on.AssemblyFailed, reason="no")
    assert {digest for effect in book.wanted(do.Forget) for digest in effect.digests} == set(first)


def test_if_nobody_answers_it_says_so_and_trains(newcomer):
    book = newcomer()
    book.connect(ONE)

    book.tick(59)
    assert isinstance(book.node.phase, Gathering)
    book.tick(1)

    assert isinstance(book.node.phase, Training)
    assert "no neighbour answered within 60 s; training as usual" in book.wanted(do.Note)[0].message
    book.tell(on.WorkerDied, reason="test")
    book.worker(is_new=True)
    assert isinstance(book.node.phase, Training)  # once is enough


def test_at_the_deadline_it_takes_what_there_is(newcomer):
    book = newcomer()
    book.connect(ONE)
    book.connect(TWO)
    book.receive(ONE)
    book.hear(TWO)

    book.tick(60)

    assert [one.peer for one in book.wanted(do.Assemble)[0].candidates] == [ONE]


def test_what_fails_is_said_and_training_begins(newcomer):
    book = newcomer(max_neighbours=1)
    book.connect(ONE)
    book.receive(ONE)

    book.tell(on.AssemblyFailed, reason="nobody gave gates")

    assert isinstance(book.node.phase, Training)
    assert book.node.assembly == "nobody gave gates"


@pytest.mark.parametrize("before", ["gathering", "assembling"])
def test_a_worker_that_dies_meanwhile_begins_it_anew_and_not_for_ever(newcomer, before):
    book = newcomer(max_neighbours=1 if before == "assembling" else 2)
    book.connect(ONE)
    book.receive(ONE)
    for _ in range(MAX_MERGE_DEATHS):
        assert state(book.node) == before
        book.tell(on.WorkerDied, reason="test")
        book.worker(is_new=True)

    book.tick()
    assert state(book.node) == ("gathering" if before == "gathering" else "training")


def test_whoever_trained_before_or_was_not_told_to_does_not_assemble(playbook):
    told, old = playbook(), playbook(assemble=True)
    told.worker(is_new=True)
    old.worker(round=Round(1))

    assert [type(book.node.phase) for book in (told, old)] == [Training, Training]


def test_answers_that_nobody_waits_for_change_nothing(newcomer):
    book = newcomer()
    before = book.node

    book.tell(on.Assembled, row={ONE: 1.0}, accepted=True, figures=RoundFigures())
    book.tell(on.AssemblyFailed, reason="late")

    assert book.node.phase == before.phase
    assert book.effects == []


def test_a_banned_peer_is_no_part_of_it(newcomer):
    book = newcomer(max_neighbours=2)
    book.connect(ONE)
    book.receive(ONE)
    while not book.wanted(do.Ban):
        book.tell(on.MessageRefused, 0.1, peer=ONE, reason="signature")

    book.tick(60)

    assert isinstance(book.node.phase, Training)
