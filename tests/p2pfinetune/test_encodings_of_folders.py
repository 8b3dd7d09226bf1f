"""Files whose encoding their folder, or their owner, decides."""

from __future__ import annotations

from p2pfinetune.data import documents
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.reading_memory import ReadingMemory
from p2pfinetune.data.second_opinion import second_opinion
from tests.p2pfinetune.foreign_texts import TEXTS, page, sentences

NOW = 4_000_000_000_000_000_000


def told(*paths, **options):
    """What became of each file, by its name."""
    report = read_documents(list(paths), **options)[1]
    return {entry.path.rpartition("/")[2]: (entry.reason or entry.encoding) for entry in report.entries}


def test_lines_that_are_open_are_read_as_their_folder_is_and_left_out_without_one(tmp_path):
    (tmp_path / "lone").mkdir()
    (tmp_path / "notes").mkdir()
    for number, line in enumerate(sentences("Croatian")):
        (tmp_path / "notes" / f"{number}.txt").write_bytes(line.encode("cp1250"))
    for folder, word in (("lone", "već"), ("notes", "kuće")):
        (tmp_path / folder / f"{word}.txt").write_bytes(word.encode("cp1250"))

    assert told(tmp_path / "lone") == {"već.txt": "unknown encoding"}
    assert set(told(tmp_path / "notes").values()) == {"cp1250"}
    assert told(tmp_path / "lone", tmp_path / "notes")["već.txt"] == "cp1250"


def test_a_file_is_read_anew_when_its_new_neighbours_say_what_it_is(tmp_path):
    memory = ReadingMemory()
    (tmp_path / "open.txt").write_bytes("već".encode("cp1250"))
    first, again = (told(tmp_path, memory=memory, now_ns=NOW) for _ in range(2))
    (tmp_path / "page.txt").write_bytes(page("Croatian").encode("cp1250"))

    documents, report = read_documents([tmp_path], memory, NOW)

    assert first == again == {"open.txt": "unknown encoding"}
    assert (documents, report) == read_documents([tmp_path])
    assert documents[0].text == "već"


def test_what_somebody_says_of_a_folder_or_a_file_overrules_every_guess_but_unicode(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "guessed.txt").write_bytes(TEXTS["Czech"].encode("iso8859-2"))
        (tmp_path / name / "unicode.txt").write_text(TEXTS["Russian"])
    (tmp_path / "b" / "one.txt").write_bytes(TEXTS["Czech"].encode("cp1250"))
    (tmp_path / "b" / "wide.txt").write_bytes(TEXTS["Czech"].encode("utf-16-le"))
    said = {
        tmp_path / "b": "iso8859-13",
        tmp_path / "b" / "one.txt": "cp1257",
        tmp_path / "b" / "wide.txt": "utf-16-le",
    }

    assert told(tmp_path / "a", encodings=said)["guessed.txt"] == "iso8859-2"
    assert told(tmp_path / "b", encodings=said) == {
        "guessed.txt": "iso8859-13",
        "one.txt": "cp1257",
        "unicode.txt": "utf-8",
        "wide.txt": "utf-16-le",
    }
    assert told(tmp_path / "c", encodings={**said, tmp_path: "cp1253"})["guessed.txt"] == "cp1253"


def test_a_second_opinion_is_shown_where_a_file_stays_open_and_asked_for_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(documents, "second_opinion", lambda data: asked.append(data) or "cp1258")
    (tmp_path / "open.txt").write_bytes("već".encode("cp1250"))
    (tmp_path / "sure.txt").write_bytes(page("Greek").encode("cp1253"))
    memory = ReadingMemory()

    reports = [read_documents([tmp_path], memory, NOW)[1] for _ in range(2)]

    assert asked == ["već".encode("cp1250")]
    assert {report.entries[0].guesses[-1] for report in reports} == {"cp1258"}
    assert second_opinion(page("Russian").encode("koi8_r")) == "koi8-r"


def test_the_report_names_every_guess_and_what_else_it_might_be(tmp_path):
    (tmp_path / "open.txt").write_bytes("već".encode("cp1250"))
    (tmp_path / "sure.txt").write_bytes(page("Czech").encode("cp1250"))
    (tmp_path / "told.txt").write_text(page("Czech"))
    _, report = read_documents([tmp_path / name for name in ("open.txt", "sure.txt", "told.txt")])
    alone = read_documents([tmp_path / "open.txt"])[1]

    assert [entry.guesses[:1] for entry in report.entries] == [("cp1250",), ("cp1250",), ()]
    assert set(alone.entries[0].guesses[:2]) == {"cp1250", "cp1252"}
    assert "2 files are not Unicode, and their encodings were guessed: cp1250 (2)" in "\n".join(report.sentences())
    assert "unknown encoding; name it: --encoding FOLDER=NAME" in "\n".join(alone.sentences())
