"""The text of a Word document: body, then notes; tables by rows. Comments, headers, and what was deleted are left out.

A .docx is a zip of XML (ECMA-376); its paragraphs are read here, since the libraries for it drop what was inserted with
changes tracked, and unpack without bounds. Names are compared without their name spaces, which differ by edition.
"""

from __future__ import annotations

from typing import Any

from p2pfinetune.data.formats import archive, markup
from p2pfinetune.data.formats.lines import PageLines
from p2pfinetune.data.formats.parts import FileTexts, FormatError, opened

BODY = "word/document.xml"
NOTES = ("word/footnotes.xml", "word/endnotes.xml")
UNSEEN = frozenset({"del", "movefrom", "fallback", "instrtext", "deltext", "rpr", "sectpr", "tblpr", "trpr", "tcpr"})
SEPARATORS = frozenset({"separator", "continuationSeparator", "continuationNotice"})
CONTENTS = "Table of Contents"
ENCRYPTED = b"\xd0\xcf\x11\xe0"  # a container of long ago, in which Office keeps what is encrypted


def is_docx(data: bytes) -> bool:
    """Whether a zip is one of Word."""
    return data.startswith(b"PK\x03\x04") and b"[Content_Types].xml" in data and BODY.encode() in data


def docx(data: bytes) -> FileTexts:
    """The text of the body and of the notes."""
    if data.startswith(ENCRYPTED):
        raise FormatError("encrypted, or saved by a program of long ago")
    budget = archive.Budget.of(len(data))
    with archive.zip_file(data) as packed:
        names = set(packed.namelist())
        roots = [
            markup.xml(archive.member_of(packed, name, budget)) for name in (BODY, *NOTES) if name in {BODY, *names}
        ]
    reading = _WordReading()
    for root in roots:
        reading.walk(root)
    return opened(reading.lines.text())


class _WordReading:
    """One walk over the parts of a document."""

    def __init__(self) -> None:
        self.lines = PageLines()
        self.cells = 0
        self.is_item = self.was_item = False

    def walk(self, root: Any) -> None:
        for event, element, name in markup.walked(root, _is_left_out):
            if event == "start":
                self._start(element, name)
            elif event == "end":
                self._end(name)

    def _start(self, element: Any, name: str) -> None:
        if name == "p" and not self.cells:
            self.lines.line_break(2)
            self.is_item = False
        elif name == "numpr" or (name == "pstyle" and _value(element).startswith("List")):
            self._item()
        elif name == "t":
            self.lines.verbatim(element.text or "")
        elif name == "tab":
            self.lines.gap = "\t"
        elif name in {"br", "cr"}:
            self.lines.another_break()
        elif name == "nobreakhyphen":
            self.lines.verbatim("-")
        elif name in {"tbl", "tr"}:
            self.lines.line_break(1 if name == "tr" else 2)
        elif name == "tc":
            self.cells += 1
            self.lines.between(" | ")

    def _item(self) -> None:
        """The paragraph is one of a list: those follow one another without a blank line."""
        if not self.is_item and not self.cells:
            self.lines.item("- ")
            self.lines.breaks = 1 if self.was_item and self.lines.pieces else self.lines.breaks
            self.is_item = True

    def _end(self, name: str) -> None:
        if name == "p" and self.cells:
            self.lines.words(" ")
        elif name == "p":
            self.was_item = self.is_item
            self.lines.item("")
        elif name == "tc":
            self.cells -= 1
        elif name == "tbl" and not self.cells:
            self.lines.line_break(2)


def _is_left_out(element: Any, name: str) -> bool:
    return name in UNSEEN or _is_furniture(element, name)


def _is_furniture(element: Any, name: str) -> bool:
    """The line above notes, and a table of contents."""
    if name in {"footnote", "endnote"}:
        return any(key.endswith("}type") and value in SEPARATORS for key, value in element.items())
    return name == "sdt" and any(
        _value(one) == CONTENTS for one in element.iter() if markup.local(one) == "docpartgallery"
    )


def _value(element: Any) -> str:
    return next((value for key, value in element.items() if key.endswith("}val")), "")
