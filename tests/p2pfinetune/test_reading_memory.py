"""What has not changed is not opened, cut or encoded again, and nobody can tell from what is read."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import replace

import pytest

from p2pfinetune.data import documents, opening, reading_memory
from p2pfinetune.data.corpus import glance
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.files import FoundFile, walk
from p2pfinetune.data.reading_memory import AT_REST_NS, ReadingMemory, is_at_rest

NOW = 2_000_000_000_000_000_000  # 2033: everything on disk has been at rest for long


def texts(found):
    return [(document.text, document.source) for document in found[0]]


@pytest.fixture
def notes(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"note {name}")
    return tmp_path


def opened(monkeypatch):
    """The names of the files that are opened from now on."""
    names = []
    read = documents.Path.read_bytes

    def noted(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(documents.Path, "read_bytes", noted)
    return names


def test_what_has_not_changed_is_not_opened_again(notes, monkeypatch):
    memory = ReadingMemory()
    first = read_documents([notes], memory, NOW)
    names = opened(monkeypatch)
    (notes / "b.txt").write_text("another note")
    second = read_documents([notes], memory, NOW)

    assert names == ["b.txt"]
    assert texts(second) == [texts(first)[0], ("another note", str(notes / "b.txt")), texts(first)[2]]


def test_a_file_that_changed_just_before_it_was_read_is_opened_again_since_its_times_may_hide_a_change(
    notes, monkeypatch
):
    (found,) = [one for one in walk([notes / "a.txt"]) if isinstance(one, FoundFile)]
    monkeypatch.setattr(documents, "walk", lambda _: iter([found]))  # as if the clock of the disk stood still
    memory, just_now = ReadingMemory(), found.changed_ns
    read_documents([notes], memory, just_now)
    (notes / "a.txt").write_text("NOTE A")
    second = read_documents([notes], memory, just_now)

    assert texts(second) == [("NOTE A", str(notes / "a.txt"))]


def test_a_file_is_at_rest_only_when_both_its_times_are_well_in_the_past(notes):
    (found,) = walk([notes / "a.txt"])
    for name in ("changed_ns", "inode_changed_ns"):
        at = replace(found, **{"changed_ns": 0, "inode_changed_ns": 0, name: NOW})
        assert [is_at_rest(at, NOW + late) for late in (-1, 0, AT_REST_NS - 1, AT_REST_NS)] == [False] * 3 + [True]


def test_bytes_that_are_the_same_are_not_decoded_again(notes, monkeypatch):
    memory = ReadingMemory()
    first = read_documents([notes], memory, NOW)
    monkeypatch.setattr(opening, "look", lambda *_: pytest.fail("decoded again"))
    for path in notes.iterdir():
        os.utime(path, ns=(1, 1))

    assert texts(read_documents([notes], memory, NOW)) == texts(first)


def test_times_that_were_set_back_hide_no_change(notes):
    memory, path = ReadingMemory(), notes / "a.txt"
    read_documents([notes], memory, NOW)
    before = path.stat()
    path.write_text("NOTE A")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert texts(read_documents([notes], memory, NOW))[0][0] == "NOTE A"


def test_no_more_text_is_remembered_than_the_bound_allows(notes, monkeypatch):
    monkeypatch.setattr(reading_memory, "MAX_CHARACTERS", 12)  # of two notes
    memory = ReadingMemory()
    first = read_documents([notes], memory, NOW)
    names = opened(monkeypatch)

    assert texts(read_documents([notes], memory, NOW)) == texts(first)
    assert names == ["c.txt"]


def test_reading_with_a_memory_finds_what_reading_without_one_finds(tmp_path):
    dice, memory, notes = random.Random(5), ReadingMemory(), tmp_path / "notes"
    notes.mkdir()
    for _ in range(60):
        path = notes / f"{dice.randrange(6)}.{dice.choice(['txt', 'jsonl'])}"
        match dice.randrange(4):
            case 0:
                path.write_text("\n".join(dice.choices(['{"text": "one"}', "two", "three", "{}"], k=4)))
            case 1:
                path.write_bytes(dice.choice([b"", b"\0\0", b"\xff\xfe", "où".encode("cp1252")]))
            case 2:
                path.unlink(missing_ok=True)
            case _:
                if path.exists():
                    shutil.copy2(path, notes / f"{dice.randrange(6)}.copy")
        assert read_documents([notes], memory, NOW) == read_documents([notes])


def test_a_look_differs_once_a_file_has_come_to_rest_so_that_it_is_read_once_more(notes):
    changed = (notes / "a.txt").stat().st_mtime_ns
    looks = [glance([notes], changed + late) for late in (0, 1, 2 * AT_REST_NS, 3 * AT_REST_NS)]

    assert looks[0] == looks[1] != looks[2] == looks[3]
