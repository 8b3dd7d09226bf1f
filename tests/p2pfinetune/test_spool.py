"""A folder larger than what is held in memory is read all the same, and laid aside without a name."""

from __future__ import annotations

import os
import random

import pytest

from p2pfinetune.data import documents as reading
from p2pfinetune.data import reading_memory, spool
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.reading_memory import ReadingMemory, is_mostly_waste
from p2pfinetune.data.spool import SpooledText, TextSpool
from p2pfinetune.errors import TextError

LATER = 10**19  # nanoseconds: all files are at rest


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes").mkdir()
    for i in range(20):
        words = random.Random(i).choices(["rain", "fällt", "дождь", "雨", "\N{UMBRELLA WITH RAIN DROPS}"], k=100)
        (tmp_path / "notes" / f"{i:02}.txt").write_text(" ".join(words))
    return tmp_path / "notes"


def test_what_is_laid_aside_reads_as_it_was_and_has_no_name(notes, tmp_path, monkeypatch):
    held, _ = read_documents([notes])
    monkeypatch.setattr(TextSpool.__init__, "__defaults__", (1000,))
    spooled, report = read_documents([notes], spool=tmp_path / "cache")

    assert [(d.id, d.text, d.characters) for d in spooled] == [(d.id, d.text, len(d.text)) for d in held]
    assert 1 <= sum(isinstance(d.held, str) for d in spooled) < 3
    assert report.characters == sum(len(d.text) for d in held)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_disk_that_refuses_costs_memory_alone(notes, tmp_path, monkeypatch):
    monkeypatch.setattr(TextSpool.__init__, "__defaults__", (0,))
    (tmp_path / "cache").write_text("no folder")
    documents, _ = read_documents([notes], spool=tmp_path / "cache")

    assert len(documents) == 20
    assert all(isinstance(document.held, str) for document in documents)


def test_a_text_that_the_disk_lost_is_an_error_and_no_other_text(tmp_path):
    aside = TextSpool(tmp_path, held=0)
    text = aside.keep("It rained.")
    assert isinstance(text, SpooledText)
    os.truncate(aside._file, 3)

    with pytest.raises(OSError, match="10 bytes of text were laid aside, and 3 are there"):
        text.read()


def test_files_that_are_remembered_are_not_laid_aside_again_until_most_of_it_is_waste(notes, tmp_path, monkeypatch):
    monkeypatch.setattr(TextSpool.__init__, "__defaults__", (0,))
    monkeypatch.setattr(reading_memory, "LEAST_WASTE_BYTES", 0)
    memory = ReadingMemory()
    where = {"memory": memory, "now_ns": LATER, "spool": tmp_path / "cache"}
    first, _ = read_documents([notes], **where)
    again, _ = read_documents([notes], **where)
    assert [d.held for d in again] == [d.held for d in first]  # the very same

    for path in sorted(notes.iterdir())[1:]:
        path.unlink()
    left, _ = read_documents([notes], **where)
    assert left[0].held is first[0].held
    assert memory.files == {}  # one text kept the file of twenty

    fresh, _ = read_documents([notes], **where)
    assert fresh[0].held is not first[0].held
    assert len(memory.files) == 1
    assert not is_mostly_waste(one.content for one in memory.files.values())
    assert spool.HELD > 1 << 20


def test_more_files_than_anybody_has_are_refused_with_the_reason(notes, monkeypatch):
    monkeypatch.setattr(reading, "MAX_FILES", 19)

    with pytest.raises(TextError, match="there are more than 19 files and folders"):
        read_documents([notes])
