"""Word, OpenDocument, books and rich text: what stands on their pages."""

from __future__ import annotations

import io
import time
import zipfile

import pytest

from p2pfinetune.data.formats.rtf import rtf
from tests.support.documents import docx_of, epub_of, odt_of, zipped

P = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"
CELL = "<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc>"
ITEM = '<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/></w:numPr></w:pPr><w:r><w:t>{}</w:t></w:r></w:p>'
BODY = (
    '<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>'
    f"<w:sdtContent>{P.format('Ice ..... 1')}</w:sdtContent></w:sdt>"
    '<w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>The har</w:t></w:r><w:r><w:t>bour</w:t></w:r></w:p>'
    '<w:p><w:r><w:t xml:space="preserve">The ice is </w:t></w:r><w:ins><w:r><w:t>thin</w:t></w:r></w:ins>'
    "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:del><w:r><w:delText>thick</w:delText></w:r></w:del><w:r><w:tab/><w:t>today.</w:t><w:br/><w:t>Stay.</w:t></w:r></w:p>"
    f"{ITEM.format('one')}{ITEM.format('two')}<w:p/>{P.format('After.')}"
    f"<w:tbl><w:tr>{CELL.format('day')}{CELL.format('ice')}</w:tr><w:tr>{CELL.format('Mon')}{CELL.format('3 &lt; 4')}</w:tr></w:tbl>"
    f"{P.format('End.')}"
)
NOTES = (
    '<w:footnote w:type="separator"><w:p><w:r><w:t>x</w:t></w:r></w:p></w:footnote><w:footnote>'
    + P.format("A note.")
    + "</w:footnote>"
)
SEEN = "The harbour\n\nThe ice is thin\ttoday.\nStay.\n\n- one\n- two\n\nAfter.\n\nday | ice\nMon | 3 < 4\n\nEnd."


@pytest.mark.parametrize("name", ["a.docx", "a", "a.bak"])
def test_of_a_word_document_body_and_notes_are_read(seen, name):
    data = docx_of(BODY, footnotes=NOTES, header1=P.format("Header"), comments=P.format("Comment"))

    assert seen(name, data).texts == [SEEN + "\n\nA note."]


ODT = (
    "<office:forms/><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>"
    "<text:table-of-content><text:p>Ice ... 1</text:p></text:table-of-content><text:h>The <text:span>har</text:span>bour</text:h>"
    "<text:p>The ice is\n thin<text:tab/>today.<text:line-break/>Stay.<text:note><text:note-citation>1</text:note-citation>"
    "<text:note-body><text:p>A note.</text:p></text:note-body></text:note></text:p>"
    "<text:list><text:list-item><text:p>one</text:p></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>"
    "<text:p>After.<office:annotation><text:p>Comment</text:p></office:annotation></text:p>"
    "<table:table><table:table-row><table:table-cell><text:p>day</text:p></table:table-cell><table:table-cell><text:p>ice</text:p></table:table-cell></table:table-row>"
    '<table:table-row><table:table-cell><text:p>Mon</text:p></table:table-cell><table:table-cell><text:p>3<text:s text:c="2"/>&lt; 4</text:p></table:table-cell></table:table-row></table:table>'
    "<text:p>End.</text:p>"
)


@pytest.mark.parametrize("name", ["a.odt", "a"])
def test_of_an_open_document_text_body_and_notes_are_read(seen, name):
    assert seen(name, odt_of(ODT)).texts == [SEEN.replace("3 <", "3  <") + "\n\nA note."]


@pytest.mark.parametrize("name", ["a.epub", "a"])
def test_each_chapter_of_a_book_is_a_text_with_its_number(seen, name):
    pages = [
        "<html><body></body></html>",
        "<h1>One</h1><p>Ice.</p>",
        '<?xml version="1.0" encoding="utf-8"?><p>Grüße &amp; Eis.</p>',
    ]
    found = seen(name, epub_of(pages))

    assert found.texts == ["One\n\nIce.", "Grüße & Eis."]
    assert found.sources == [f"{name}:chapter 1", f"{name}:chapter 2"]


RTF = rb"""{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fswiss\fcharset0 Helvetica;}{\f1\fcharset204 Arial;}}{\colortbl;\red0;}
{\stylesheet{\s0 Normal;}}{\*\generator Word;}{\info{\title T}}{\header Header}\pard\f0 Das Eis h\'e4lt.\par
\b Es ist\b0  d\u252\'fcnn \endash  \{ja\}\~da.\
{\f1 \'cb\'b8\'e4}\tab x{\pict 00ff}\line \u-10179?\u-8704?\cell end}"""


@pytest.mark.parametrize("name", ["a.rtf", "a.doc"])
def test_of_rich_text_the_words_are_read(seen, name):
    assert seen(name, RTF).texts == ["Das Eis hält.\nEs ist dünn – {ja}\xa0da.\nЛёд\tx\n\U0001f600 | end"]


ENTITIES = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cccc">]><w:document xmlns:w="x"><w:p><w:r><w:t>&b;</w:t></w:r></w:p></w:document>'
OUTSIDE = ENTITIES.replace(b'"cccc"', b'SYSTEM "file:///etc/passwd"')
ENCRYPTED = "<m:manifest xmlns:m='x'><m:encryption-data/></m:manifest>"
HIDDEN_CHAPTER = b'<encryption><CipherReference URI="OPS/c%200.xhtml"/></encryption>'


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", b"\xd0\xcf\x11\xe0" + bytes(600), "encrypted, or saved by a program of long ago"),
        ("a.docx", b"PK no", "cannot be read as Word document (BadZipFile)"),
        ("a.docx", zipped({"a": b""}), "parts of it are missing"),
        ("a.docx", zipped({"word/document.xml": ENTITIES}), "markup with entities of its own"),
        ("a.docx", zipped({"word/document.xml": OUTSIDE}), "markup with entities of its own"),
        ("a.docx", zipped({"word/document.xml": b"<a>" * 300}), "cannot be read as Word document (XMLSyntaxError)"),
        ("a.docx", zipped({"word/document.xml": b"<a>" + bytes(9 << 20)}), "unpacks to too much"),
        ("a.docx", docx_of(""), "empty"),
        ("a.odt", odt_of("x", ENCRYPTED), "encrypted"),
        ("a.odt", b"<not closed", "cannot be read as OpenDocument text (XMLSyntaxError)"),
        ("a.epub", zipped({"mimetype": b"application/epub+zip"}), "parts of it are missing"),
        ("a.epub", epub_of(["<p>Ice.</p>"], **{"META-INF/encryption.xml": HIDDEN_CHAPTER}), "encrypted"),
        ("a.rtf", b"text", "cannot be read as rich text"),
        ("a.rtf", b"{\\rtf" + b"{" * 2000, "rich text nested too deep"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_reason(seen, name, data, reason):
    assert seen(name, data).reason == reason


def test_a_cut_or_flipped_file_is_read_or_told_and_never_stops_a_reading(seen):
    for name, whole in (
        ("a.docx", docx_of(BODY)),
        ("a.odt", odt_of(ODT)),
        ("a.epub", epub_of(["<p>Ice.</p>"])),
        ("a.rtf", RTF),
    ):
        for at in range(10, len(whole), len(whole) // 7):
            for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]):
                found = seen(name, data)
                assert found.texts or found.reason


@pytest.mark.parametrize(
    "piece",
    [rb"\u1 ", rb"\'e4", b"{}", b"{\\*", rb"\par ", b"\\", b"{\\fonttbl\\f0\\fcharset0 ", b"{\\field{\\*\\fldinst{"],
)
def test_no_rich_text_keeps_the_reader_busy_for_longer_than_its_length(piece):
    begun = time.process_time()

    try:
        rtf(b"{\\rtf1 " + piece * (50_000 // len(piece)))
    except Exception as error:
        assert "nested too deep" in str(error)  # noqa: PT017

    assert time.process_time() - begun < 3.0


def test_a_document_is_read_from_memory_alone(seen, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("written to disk")

    monkeypatch.setattr(zipfile.ZipFile, "extract", refuse)
    monkeypatch.setattr(zipfile.ZipFile, "extractall", refuse)
    monkeypatch.setattr(io, "FileIO", refuse)

    assert seen("a.docx", docx_of(P.format("Ice."))).texts == ["Ice."]
