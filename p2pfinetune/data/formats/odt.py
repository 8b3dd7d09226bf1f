"""The text of an OpenDocument text (LibreOffice): body, then notes. Comments and what was deleted are left out.

An .odt is a zip whose `content.xml` holds the text (OASIS OpenDocument 1.3); an .fodt is that XML alone. White space is
as on pages: several spaces are an element.
"""

from __future__ import annotations

from typing import Any

from p2pfinetune.data.formats import archive, markup
from p2pfinetune.data.formats.lines import PageLines
from p2pfinetune.data.formats.parts import FileTexts, FormatError, opened

CONTENT, MANIFEST = "content.xml", "META-INF/manifest.xml"
MIME = b"mimetypeapplication/vnd.oasis.opendocument.text"  # stands uncompressed at byte 30, so that it can be seen
UNSEEN = frozenset(
    {"annotation", "tracked-changes", "note", "table-of-content", "alphabetical-index", "illustration-index", "forms"}
    | {"bibliography", "note-citation", "desc", "title", "meta", "settings", "styles", "automatic-styles", "scripts"}
    | {"master-styles", "font-face-decls", "binary-data", "soft-page-break", "annotation-end"}
)
MAX_SPACES = 100


def is_odt(data: bytes) -> bool:
    """Whether a zip calls itself a text of OpenDocument."""
    return data.startswith(b"PK\x03\x04") and data[30:].startswith(MIME)


def odt(data: bytes) -> FileTexts:
    """The text of the body and of the notes."""
    if data.startswith(b"PK"):
        budget = archive.Budget.of(len(data))
        with archive.zip_file(data) as packed:
            if MANIFEST in packed.namelist() and b"encryption-data" in archive.member_of(packed, MANIFEST, budget):
                raise FormatError("encrypted")
            data = archive.member_of(packed, CONTENT, budget)
    root = markup.xml(data)
    reading = _OdtReading()
    reading.walk(root)
    for note in root.iter():
        if markup.local(note) == "note-body":
            reading.walk(note)
    return opened(reading.lines.text())


class _OdtReading:
    """One walk over a text."""

    def __init__(self) -> None:
        self.lines = PageLines()
        self.cells = self.items = 0

    def walk(self, root: Any) -> None:
        self.lines.line_break(2)
        for event, element, name in markup.walked(root, lambda _, name: name in UNSEEN):
            if event == "start":
                self._start(element, name)
                self._words(element.text, name)
                continue
            if event == "end":
                self._end(name)
            if element is not root:
                self._words(element.tail, markup.local(element.getparent()))

    def _words(self, text: str | None, inside: str) -> None:
        if text and inside in {"p", "h", "span", "a", "meta-field", "ruby-base", "s", "tab", "line-break", "bookmark"}:
            self.lines.words(text)

    def _start(self, element: Any, name: str) -> None:
        if name in {"p", "h"} and not self.cells:
            self.lines.line_break(1 if self.items else 2)
        elif name == "list":
            self.items += 1
            self.lines.line_break(2 if self.items == 1 else 1)
        elif name == "list-item" and not self.cells:
            self.lines.item("- ")
        elif name == "s":
            self.lines.gap = " " * min(MAX_SPACES, _number(element, 1))
        elif name == "tab":
            self.lines.gap = "\t"
        elif name == "line-break":
            self.lines.another_break()
        elif name in {"table", "table-row"}:
            self.lines.line_break(1 if name == "table-row" else 2)
        elif name == "table-cell":
            self.cells += 1
            self.lines.between(" | ")

    def _end(self, name: str) -> None:
        if name in {"p", "h"} and self.cells:
            self.lines.words(" ")
        elif name == "list-item":
            self.lines.item("")
        elif name == "list":
            self.items -= 1
            self.lines.line_break(1 if self.items else 2)
        elif name == "table-cell":
            self.cells -= 1
        elif name == "table" and not self.cells:
            self.lines.line_break(2)


def _number(element: Any, default: int) -> int:
    found = next((value for key, value in element.items() if key.endswith("}c")), "")
    return int(found) if found.isascii() and found.isdigit() and len(found) < 6 else default
