"""PDFs: the text of their pages, as it was before it was set."""

from __future__ import annotations

import importlib
import io
import time

import pypdf
import pytest

from p2pfinetune.data.formats.pdf import joined, pdf
from tests.support.documents import pdf_of

LIMITS = importlib.import_module("p2pfinetune.data.formats.pdf")

NAMES = ("Anna", "Bob", "Carla", "Dirk")
PAGES = [
    [
        f"The harbour in winter {number}",
        f"{name} says: the ice of the harbour is thin at first, and grows by a cen-",
        f"timetre each night. Who walks on it hears it; nobody should {number}",
        "walk on it before January.",
        "Then boats are of no use.",
        "• ice: 4 cm",
        f"• wind: {name}",
        f"- {number} -",
    ]
    for number, name in enumerate(NAMES, start=1)
]


def test_the_lines_of_a_page_are_paragraphs_again_and_headers_are_left_out(seen):
    found = seen("ice.pdf", pdf_of(PAGES))

    page = (
        "{1} says: the ice of the harbour is thin at first, and grows by a centimetre each night. Who walks on it hears it; "
        "nobody should {0} walk on it before January.\nThen boats are of no use.\n• ice: 4 cm\n• wind: {1}"
    )
    assert "\n".join(found.texts) == "\n".join(page.format(*one) for one in enumerate(NAMES, start=1))
    assert list(found.left_out) == ["headers and footers of pages"]


def test_a_pdf_is_known_by_its_first_bytes(seen):
    assert seen("letter", pdf_of([["Dear Anna,", "the ice is thin."]])).texts == ["Dear Anna,\nthe ice is thin."]


def test_lines_of_a_table_of_contents_are_left_out():
    text, left_out = joined(["1 Ice . . . . . . . . . 3\n2 Wind ............ 14\nNow it begins."])

    assert (text, left_out["tables of contents"]) == ("Now it begins.", 47)


def encrypted(password: str) -> bytes:
    writer, data = pypdf.PdfWriter(clone_from=io.BytesIO(pdf_of([["Secret ice."]]))), io.BytesIO()
    writer.encrypt(password, "owner", algorithm="AES-256")
    writer.write(data)
    return data.getvalue()


def test_what_is_encrypted_is_told_unless_it_needs_no_password(seen):
    assert seen("a.pdf", encrypted("x")).reason == "encrypted"
    assert seen("b.pdf", encrypted("")).texts == ["Secret ice."]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7 some words", "cannot be read as PDF (PdfStreamError)"),
        (pdf_of([[], []]), "pages without text, a scan perhaps"),
        (pdf_of([["\x01\x02\x03 a"]]), "a PDF whose letters have no meaning"),
        (pdf_of([["x"]]).replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"), "cannot be read as PDF (PdfReadError)"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_reason(seen, data, reason):
    assert seen("a.pdf", data).reason == reason


def test_a_pdf_with_too_much_in_it_is_refused(seen, monkeypatch):
    monkeypatch.setattr(LIMITS, "MAX_OPERATORS", 20)

    assert seen("a.pdf", pdf_of(PAGES)).reason == "a PDF with too much in it"


def test_a_pdf_that_shows_one_long_text_again_and_again_is_refused(seen, monkeypatch):
    monkeypatch.setattr(LIMITS, "MAX_CHARACTERS", 1000)

    assert (
        seen("a.pdf", pdf_of([[]] * 30, b"BT /F1 9 Tf (" + b"ice " * 50 + b") Tj ET")).reason
        == "a PDF with too much in it"
    )


def test_a_page_with_too_much_in_it_is_left_out_and_counted(seen, monkeypatch):
    monkeypatch.setattr(LIMITS, "MAX_IN_STREAM", 50)
    found = seen("a.pdf", pdf_of([["Ice."], ["x"] * 100]))

    assert found.texts == ["Ice."]
    assert list(found.left_out) == ["damaged pages of a PDF"]


@pytest.mark.parametrize(
    "content",
    [
        b"BT (x) Tj ET " * 4000,
        b"[" * 20_000,
        b"q " * 20_000,
        b"<<" * 10_000,
        b"(" * 50_000,
        b"BT [(a)-1" + b"(a)-1" * 5000,
    ],
)
def test_no_page_keeps_the_reader_busy_for_long(content):
    begun = time.process_time()

    try:
        pdf(pdf_of([["x"]], content))
    except Exception as error:
        assert str(error)  # noqa: PT017

    assert time.process_time() - begun < 10.0


def test_a_cut_or_flipped_file_is_read_or_told_and_never_stops_a_reading(seen):
    whole = pdf_of(PAGES[:1])
    for at in range(10, len(whole), len(whole) // 25):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x11]) + whole[at + 1 :]):
            found = seen("a.pdf", data)
            assert found.texts or found.reason
