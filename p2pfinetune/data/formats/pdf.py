"""The text of a PDF, which knows no paragraphs: its pages' lines, joined as they were before they were set.

A PDF says where letters stand. pypdf puts them into lines; here a line as wide as its page goes on in the next, a word
that was parted at a line's end is one again (now and then one that had a hyphen before), and lines at the top or bottom
that many pages share are headers and footers, which are left out. Tables and formulas come out as their lines.

A PDF is a program, and may be made to run for ever. Bounded are what a stream unpacks to, what is parsed of one, how
often forms are drawn, pages, and drawing operators in all; no other program is started for pictures.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from p2pfinetune.data.formats.parts import FileTexts, FormatError, opened

MAX_PAGES = 5000
MAX_OPERATORS = 1_000_000  # of all pages: a minute or so; a page of a book has some hundred
MAX_CHARACTERS = 32 << 20  # of all pages, which may share what they show
MAX_STREAM_BYTES = 16 << 20
MAX_IN_STREAM = 500_000  # operands and operators; of a page with a detailed map there are more, and it is left out
MAX_DAMAGED = 20  # pages; each may take seconds
MAX_FORMS = 200  # drawn on one page
FURNITURE, CONTENTS, DAMAGED = "headers and footers of pages", "tables of contents", "damaged pages of a PDF"
TOP, BOTTOM = 2, 2  # lines of a page that may be a header or a footer
LEAST_PAGES, LEAST_SHARE = 3, 0.3  # of the pages that have it; odd and even pages have their own
FULL_LINE = 0.75  # of a page's wide lines: one that goes on in the next
MOST_STRANGE = 0.1  # of characters: in some PDFs letters are numbers of pictures and mean nothing
LEADERS = re.compile(r"(?:\. ?){6,}[ \d]*\Z")  # a line of a table of contents
PAGE_NUMBER = re.compile(r"[-–— ]{0,3}(\d{1,4}|[ivxl]{1,6})[-–— ]{0,3}")
DIGITS = re.compile(r"\d+|\b[ivxl]{1,6}\b")
PARTED = re.compile(r"[^\W\d_][-\u00ad\u2010]\Z")
ENDS = re.compile(r"[.!?:;。！？]['\"”’)\]]?\Z")
BEGINS_ANEW = re.compile(r"[\u2022\u25aa\u25e6\u2023*–—-]\s|\(?\d{1,3}[.)]|\d{1,2}(\.\d{1,2})+\s|[a-z]\)\s")
LIGATURES = {
    0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st",
}  # fmt: skip


def is_pdf(data: bytes) -> bool:
    """Whether bytes begin as a PDF does."""
    return data[:1024].lstrip().startswith(b"%PDF-")


def pdf(data: bytes) -> FileTexts:
    """The text of all pages."""
    import pypdf

    bounds = pypdf.apply_configuration(
        zlib_maximum_output_length=MAX_STREAM_BYTES,
        lzw_maximum_output_length=MAX_STREAM_BYTES,
        run_length_maximum_output_length=MAX_STREAM_BYTES,
        array_based_stream_maximum_output_length=MAX_STREAM_BYTES,
        stream_parsing_work_maximum_count=MAX_IN_STREAM,
        xform_maximum_invocations_per_extraction=MAX_FORMS,
        page_tree_maximum_entries=MAX_PAGES,
        jbig2dec_binary=None,
    )
    with bounds:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise FormatError("encrypted")
        pages, damaged = _pages(reader)
    text, left_out = joined(pages)
    if not text.strip():
        raise FormatError("pages without text, a scan perhaps")
    if _strange(text) > MOST_STRANGE * len(text):
        raise FormatError("a PDF whose letters have no meaning")
    mean = sum(map(len, pages)) // len(pages)
    return opened(text, {**left_out, DAMAGED: damaged * mean})


def _pages(reader: Any) -> tuple[list[str], int]:
    """The text of each page that can be read, and how many cannot."""
    from pypdf.errors import PyPdfError

    done, said, damaged = 0, 0, 0
    texts: list[str] = []

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        if done > MAX_OPERATORS or said > MAX_CHARACTERS:
            raise FormatError("a PDF with too much in it")

    def count_text(text: str, *_: Any) -> None:
        nonlocal said
        said += len(text)

    for page in reader.pages:
        try:
            texts.append(page.extract_text(visitor_operand_before=count, visitor_text=count_text).translate(LIGATURES))
        except PyPdfError:
            damaged += 1
        if damaged > MAX_DAMAGED:
            raise FormatError("a PDF with too many damaged pages")
    if damaged and not texts:
        raise FormatError("no page of it can be read")
    return texts, damaged


def _strange(text: str) -> int:
    return sum(not (sign.isprintable() or sign.isspace()) or sign == "\ufffd" for sign in text)


def joined(pages: list[str]) -> tuple[str, dict[str, int]]:
    """One text of all pages, and how many characters of them are left out, by reason."""
    every = [[line.strip() for line in page.split("\n")] for page in pages]
    common = _furniture(every)
    left_out = {FURNITURE: 0, CONTENTS: 0}
    kept: list[tuple[str, int]] = []
    for lines in every:
        of_page = []
        for line, reason in _judged(lines, common):
            if reason:
                left_out[reason] += len(line)
            else:
                of_page.append(line)
        of_page = "\n".join(of_page).strip("\n").split("\n")
        width = _width(of_page)
        kept += [(line, width) for line in of_page]
    return "".join(_flowing(kept)).strip("\n"), left_out


def _edges(lines: list[str]) -> set[int]:
    """Numbers of the lines at the top and at the bottom, blank ones not counted."""
    filled = [number for number, line in enumerate(lines) if line]
    return {*filled[:TOP], *filled[-BOTTOM:]}


def _furniture(pages: list[list[str]]) -> frozenset[str]:
    """Lines at the edges of many pages, whatever numbers stand in them."""
    seen = Counter(key for lines in pages for key in {_key(lines[number]) for number in _edges(lines)})
    least = max(LEAST_PAGES, LEAST_SHARE * len(pages))
    return frozenset(key for key, count in seen.items() if count >= least)


def _key(line: str) -> str:
    return DIGITS.sub("#", line.lower())


def _judged(lines: list[str], common: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Each line, and the reason why it is left out; empty if it is read."""
    edges = _edges(lines)
    for number, line in enumerate(lines):
        if number in edges and (_key(line) in common or PAGE_NUMBER.fullmatch(line)):
            yield line, FURNITURE
        else:
            yield line, CONTENTS if LEADERS.search(line[-200:]) else ""


def _width(lines: list[str]) -> int:
    """Characters of a wide line of a page."""
    lengths = sorted(len(line) for line in lines if line)
    return lengths[len(lengths) * 4 // 5] if lengths else 0


def _flowing(lines: list[tuple[str, int]]) -> Iterator[str]:
    """The pieces of a text in which lines that were one are one again."""
    for (line, width), (after, _) in pairwise([*lines, ("", 0)]):
        if PARTED.search(line) and after[:1].islower():
            yield line[:-1]
        elif line and after and len(line) >= FULL_LINE * width and _goes_on(line, after):
            yield line + " "
        else:
            yield line + "\n"


def _goes_on(line: str, after: str) -> bool:
    is_new = BEGINS_ANEW.search(after[:12])
    return (is_new is None or is_new.start() > 0) and (after[0].islower() or not ENDS.search(line[-3:]))
