"""Reading files and folders into documents."""

from __future__ import annotations

import inspect
import json
import os
import random
import sys

import pytest

from p2pfinetune.data import documents as reading
from p2pfinetune.data import files
from p2pfinetune.data.documents import Document, normalise, read_documents
from p2pfinetune.errors import TextError

PROSE = "The quick brown fox jumps over the lazy dog.\n"


def texts(*paths):
    return [document.text for document in read_documents(paths)[0]]


def reasons(*paths):
    return {reason: len(found) for reason, found in read_documents(paths)[1].skipped.items()}


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.py", "a.tex", "README"])
def test_text_is_read_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_text(PROSE)

    assert texts(tmp_path) == [PROSE.strip()]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252"])
def test_every_usual_encoding_gives_the_same_document(tmp_path, encoding):
    text = "Où est le garçon ? Über die Brücke, à côté de l'élève. " * 3
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))

    assert texts(tmp_path) == [text.strip()]


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_in_both_byte_orders(tmp_path, order):
    (tmp_path / "a.txt").write_bytes("\ufeffhé".encode(order))

    assert texts(tmp_path) == ["hé"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0",
        b"%!PS-Adobe-3.0 some words",
        random.Random(0).randbytes(3000).replace(b"\0", b"\1"),
        b"\xff\xfe\x00\xd8",
    ],
)
def test_what_is_no_text_is_skipped_and_reported(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)

    assert reasons(tmp_path) == {"not text": 1}


def test_line_ends_and_blanks_at_line_ends_make_no_second_document(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfone  \r\ntwo\r\n\r\n")
    documents, report = read_documents([tmp_path])

    assert [document.text for document in documents] == ["one\ntwo"]
    assert report.repeated == 1
    assert report.skipped == {"duplicate": (str(tmp_path / "b.txt"),)}


def test_the_id_depends_on_the_text_alone():
    assert Document.of("a", "here").id == Document.of("a", "there").id
    assert Document.of("a", "here").id != Document.of("b", "here").id


def test_empty_and_blank_files_are_reported_as_empty(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text(" \n\n\t\n")

    assert reasons(tmp_path) == {"empty": 2}


def test_hidden_folders_and_installed_packages_are_left_out(tmp_path):
    for folder in (".git", "node_modules", "__pycache__", "venv", "notes"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(f"text of {folder}")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr")

    assert texts(tmp_path) == ["text of notes"]
    assert reasons(tmp_path) == {"hidden": 1, "installed packages": 3}


def test_a_hidden_folder_that_is_named_outright_is_read(tmp_path):
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".notes" / "a.txt").write_text("mine")

    assert texts(tmp_path / ".notes") == ["mine"]


def test_loops_of_links_end_and_a_file_reached_twice_is_read_once(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.txt").write_text("once")
    (tmp_path / "inside" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")

    assert texts(tmp_path, tmp_path / "inside" / "a.txt") == ["once"]
    assert reasons(tmp_path) == {"already read": 1, "broken link": 2}


def test_a_named_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert reasons(tmp_path) == {"no regular file": 1}


def test_a_folder_nested_deeper_than_python_calls_is_walked(tmp_path):
    deepest = tmp_path.joinpath(*["d"] * 300)
    deepest.mkdir(parents=True)
    (deepest / "a.txt").write_text("deep")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        found = texts(tmp_path)
    finally:
        sys.setrecursionlimit(limit)

    assert found == ["deep"]


def test_a_file_above_the_bound_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "a.txt").write_text("x" * 11)
    (tmp_path / "b.txt").write_text("x" * 10)

    assert texts(tmp_path) == ["x" * 10]
    assert len(reasons(tmp_path)) == 1


def test_reading_stops_at_the_bound_on_all_files_together(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_TOTAL_BYTES", 15)
    (tmp_path / "a.txt").write_text("a" * 10)
    (tmp_path / "b.txt").write_text("b" * 10)
    (tmp_path / "c.txt").write_text("c" * 5)

    assert texts(tmp_path) == ["a" * 10, "c" * 5]


def test_a_file_nobody_may_read_is_reported(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("secret")

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(files.Path, "read_bytes", refuse)  # root may read everything, so permissions prove nothing
    assert reasons(tmp_path) == {"unreadable": 1}


def test_a_path_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    with pytest.raises(TextError, match="nowhere"):
        read_documents([tmp_path / "nowhere"])


def test_the_report_says_what_became_of_every_file(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    (tmp_path / "b.txt").write_text("some text")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": "some text"}\n{}\n')
    (tmp_path / "d.bin").write_bytes(bytes(100))
    (tmp_path / "e.txt").write_bytes("Où ?".encode("cp1252"))
    report = read_documents([tmp_path])[1]

    found = [(e.path.rpartition("/")[2], e.reason, e.documents, e.repeated, e.bad_rows) for e in report.entries]
    assert found == [
        ("a.txt", "", 1, 0, 0),
        ("b.txt", "duplicate", 0, 1, 0),
        ("c.jsonl", "", 1, 1, 1),
        ("d.bin", "not text", 0, 0, 0),
        ("e.txt", "", 1, 0, 0),
    ]
    assert (report.files, report.documents, report.characters) == (3, 3, 16)
    assert report.encodings == {"utf-8": 2, "cp1252": 1}


def test_each_row_is_a_document_and_bad_rows_are_counted(tmp_path):
    rows = [
        json.dumps({"text": "first", "content": "not this"}),
        json.dumps({"text": None, "body": "second"}),
        json.dumps("third"),
        "{broken",
        json.dumps({"title": "no text here"}),
        json.dumps(["a", "list"]),
        "",
        json.dumps({"text": "first"}),
        "[" * 100_000,
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    documents, report = read_documents([tmp_path])

    assert [document.text for document in documents] == ["first", "second", "third"]
    assert (report.bad_rows, report.repeated, report.files) == (4, 1, 1)
    assert documents[1].source.endswith("a.jsonl:2")


def test_rows_are_known_by_content_too(tmp_path):
    (tmp_path / "a.json").write_text('{"text": "one"}\n{"text": "two"}\n')

    assert texts(tmp_path) == ["one", "two"]


def test_a_row_with_a_lone_surrogate_can_be_encoded(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "bad \\ud800 sign"}\n')

    assert texts(tmp_path) == ["bad \ufffd sign"]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    for name in "bca":
        (tmp_path / name).write_text(name * 3)
    forward = texts(tmp_path)
    listed = files.Path.iterdir
    monkeypatch.setattr(files.Path, "iterdir", lambda path: iter(list(listed(path))[::-1]))

    assert texts(tmp_path) == forward == ["aaa", "bbb", "ccc"]


def test_the_report_speaks_plain_words(tmp_path):
    (tmp_path / "a.txt").write_text("some text")
    for i in range(5):
        (tmp_path / f"{i}.bin").write_bytes(b"\0")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n{"text": "x"}\n{}\n')
    lines = read_documents([tmp_path])[1].sentences()

    assert lines[0] == "2 documents from 2 files"
    assert "5 paths skipped (not text)" in lines[1]
    assert "and 2 more" in lines[1]
    assert lines[2].startswith("1 document skipped")
    assert lines[3].startswith("1 row skipped")


def test_normalising_twice_changes_nothing():
    text = "\r\n  indented \t\r\nline\r\r\n\n"

    assert normalise(text) == "  indented\nline"
    assert normalise(normalise(text)) == normalise(text)
