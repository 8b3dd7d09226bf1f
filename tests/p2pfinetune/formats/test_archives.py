"""Files packed into files, by friends and by foes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
import zstandard

from p2pfinetune.data import documents, formats, opening
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.formats import archive
from p2pfinetune.data.reading_memory import ReadingMemory
from tests.support.documents import pdf_of, zipped


def tarred(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as into:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            into.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        into.addfile(link)
    return packed.getvalue()


NOTES = {
    "notes/a.md": b"---\nid: 1\n---\nThe ice holds.",
    "../../b.html": b"<p>It <b>cracks</b>.</p>",
    "c.png": bytes(100),
    ".git/config": b"hidden",
    "node_modules/x/readme.txt": b"not mine",
    "d.txt": "Früher hielt das Eis länger, sagte die Großmutter. ".encode("cp1252") * 4,
}
TEXTS = ["The ice holds.", "It cracks.", "Früher hielt das Eis länger, sagte die Großmutter. " * 4]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", lambda: zipped(NOTES)),
        ("a.tar", lambda: tarred(NOTES)),
        ("a.tar.gz", lambda: gzip.compress(tarred(NOTES))),
        ("a.tgz", lambda: gzip.compress(tarred(NOTES))),
        ("a.tar.zst", lambda: zstandard.compress(tarred(NOTES))),
        ("a.tar.xz", lambda: lzma.compress(tarred(NOTES))),
    ],
)
def test_each_file_of_an_archive_is_read_as_if_it_lay_in_a_folder(seen, name, pack):
    found = seen(name, pack())

    assert [text.strip() for text in found.texts] == [text.strip() for text in TEXTS]
    assert found.sources == [f"{name}:notes/a.md", f"{name}:../../b.html", f"{name}:d.txt"]
    assert found.left_out == {"front matter": 14, "not text": 100, "hidden": 14}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.md.gz", gzip.compress),
        ("a.md.zst", zstandard.compress),
        ("a.md.bz2", bz2.compress),
        ("a.md.xz", lzma.compress),
        ("a.md.gz", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
        ("a.md.zst", lambda data: zstandard.compress(data[:9]) + zstandard.compress(data[9:])),
    ],
)
def test_a_single_packed_file_is_read_as_what_it_was(seen, name, pack):
    found = seen(name, pack(b"---\nid: 1\n---\nThe ice holds."))

    assert (found.texts, found.sources) == (["The ice holds."], [f"{name}:a.md"])


def test_an_archive_in_an_archive_is_opened_and_one_in_that_is_not(seen):
    inner = zipped({"a.txt": b"one", "deepest.zip": zipped({"b.txt": b"two"})})
    found = seen("a.zip", zipped({"inner.zip": inner, "c.txt.gz": gzip.compress(b"three")}))

    assert found.texts == ["one", "three"]
    assert list(found.left_out) == ["an archive in an archive in an archive"]


BOMB = b"\0" * (4 << 20)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", lambda: zipped({"a.txt": BOMB, "b.txt": BOMB})),
        ("a.tar.gz", lambda: gzip.compress(tarred({"a.txt": BOMB}))),
        ("a.txt.gz", lambda: gzip.compress(BOMB)),
        ("a.txt.bz2", lambda: bz2.compress(BOMB)),
        ("a.txt.xz", lambda: lzma.compress(BOMB)),
        ("a.txt.zst", lambda: zstandard.compress(BOMB)),
    ],
)
def test_what_unpacks_to_too_much_is_refused_before_it_fills_the_memory(seen, name, pack):
    assert seen(name, pack()).reason == "unpacks to too much"


def test_archives_inside_an_archive_share_what_may_be_unpacked(seen):
    inner = zipped({"a.bin": bytes(900_000)})
    found = seen("a.zip", zipped({f"{number}.zip": inner for number in range(4)}, zipfile.ZIP_STORED))

    assert not seen("b.zip", inner).left_out.get("unpacks to too much")
    assert found.left_out["not text"] < archive.Budget.of(5 * len(inner)).left_bytes
    assert found.left_out["unpacks to too much"] > 0


def test_documents_inside_an_archive_that_hold_more_than_they_take_are_stopped(seen, monkeypatch):
    monkeypatch.setattr(opening, "MAX_UNPACKED_BYTES", 100)
    found = seen("a.zip", zipped({f"{number}.txt": b"ice %d " % number * 10 for number in range(9)}))

    assert (len(found.texts), list(found.left_out)) == (2, ["unpacks to too much"])


def test_a_text_that_repeats_itself_is_no_bomb(seen):
    text = b"The ice holds. " * 4000
    found = seen("a.txt.gz", gzip.compress(text))

    assert sum(map(len, found.texts)) > 10_000


def test_a_zip_that_lies_about_its_sizes_gives_no_more_than_is_allowed(seen):
    data = bytearray(zipped({"a.txt": BOMB}))
    at = data.index(archive.ENTRY)
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")

    assert seen("a.zip", bytes(data)).reason in {"unpacks to too much", "cannot be read as zip (BadZipFile)"}


def test_too_many_files_are_refused(seen, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)

    assert seen("a.zip", zipped(dict.fromkeys("abcdef", b"x"))).reason == "too many files in an archive"
    assert "too many files in an archive" in seen("a.tar", tarred(dict.fromkeys("abcdef", b"x"))).left_out


def test_encrypted_files_are_counted_and_the_others_read(seen):
    data = bytearray(zipped({"a.txt": b"secret", "b.txt": b"open"}))
    data[data.index(archive.ENTRY) + 8] |= 1  # the flag of the first entry
    found = seen("a.zip", bytes(data))

    assert (found.texts, found.left_out) == (["open"], {"encrypted": 6})


@pytest.mark.parametrize("name", ["a.zip", "a.gz", "a.tar", "a.tar.gz", "a.zst", "a.bz2", "a.xz"])
def test_what_is_no_archive_is_told_with_what_it_should_be(seen, name):
    assert seen(name, b"PK\x03\x04 is not enough").reason.startswith("cannot be read as ")


def test_of_an_archive_that_was_cut_the_files_before_the_cut_are_read(seen):
    found = seen("a.tar", tarred({"a.txt": b"whole", "b.txt": b"x" * 5000})[:2000])

    assert found.texts == ["whole"]
    assert list(found.left_out) == ["cannot be read as tar (ReadError)"]


def test_without_a_library_the_file_is_told_with_what_to_install(seen, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    monkeypatch.setitem(__import__("sys").modules, "lxml", None)

    assert seen("a.zst", zstandard.compress(b"x")).reason == "needs: pip install 'peerd[documents]'"
    assert seen("a.html", b"<p>x</p>").reason == "needs: pip install 'peerd[documents]'"


def test_what_was_unpacked_once_is_not_opened_again_until_it_changes(tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(zipped(NOTES))
    (tmp_path / "b.pdf").write_bytes(pdf_of([["Ice."]]))
    memory, now = ReadingMemory(), 4_000_000_000_000_000_000
    first = read_documents([tmp_path], memory, now)
    monkeypatch.setattr(documents, "content_of_bytes", lambda *_: pytest.fail("opened again"))

    assert read_documents([tmp_path], memory, now) == first
    assert len(first[0]) == 4


def test_what_unpacks_goes_piece_by_piece():
    taken = []

    class Endless:
        def read(self, size: int) -> bytes:
            taken.append(size)
            return bytes(size)

    with pytest.raises(formats.parts.FormatError):
        archive.Budget.of(10).read(Endless())

    assert max(taken) <= archive.PIECE
    assert sum(taken) <= archive.FREE_BYTES + 10 * archive.MAX_RATIO + 1
