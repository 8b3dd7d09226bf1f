"""Formats: which files hold text that their bytes do not show, and how the text is got out of them. Pure.

One file a format or family. A format that a program writes (a page, a mail, a PDF) is reduced to what its reader sees;
one that a person types (Markdown, Org, LaTeX) stays as typed, without what a program keeps in it. Three kinds:

    of bytes     `read_bytes`   PDF, office, books, mail: they know their own encoding
    of text      `read_text`    pages, notes, tables, notebooks: decoded as every text (see `encodings`), then read
    of files     `members`      .gz, .zst, .zip, .tar: their members are files again

A format is told by its name's suffix, and by its first bytes if these leave no doubt. Each library is imported when its
first file is met; every error of one is a reason in the report, by one seam (`seam`). Nothing is fetched, run or
written to disk, and sizes, numbers and depths are bounded, since most of these files come from strangers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from p2pfinetune.data.formats import archive
from p2pfinetune.data.formats.archive import Budget
from p2pfinetune.data.formats.docx import docx, is_docx
from p2pfinetune.data.formats.epub import epub, is_epub
from p2pfinetune.data.formats.mail import emlx, is_emlx, is_mail, mail
from p2pfinetune.data.formats.markdown import markdown
from p2pfinetune.data.formats.mbox import is_mbox, mbox
from p2pfinetune.data.formats.notebook import notebook
from p2pfinetune.data.formats.odt import is_odt, odt
from p2pfinetune.data.formats.org import org
from p2pfinetune.data.formats.page import declared_encoding, page
from p2pfinetune.data.formats.parts import FileTexts, FormatError, PackedFile, TextPart
from p2pfinetune.data.formats.pdf import is_pdf, pdf
from p2pfinetune.data.formats.rtf import is_rtf, rtf
from p2pfinetune.data.formats.seam import read_by
from p2pfinetune.data.formats.table import table
from p2pfinetune.data.formats.tex import tex

__all__ = ["Budget", "FileTexts", "PackedFile", "TextPart", "declared", "members", "read_bytes", "read_text"]

BEGINNING = 1024  # bytes in which the mark of a format stands


@dataclass(frozen=True, slots=True)
class BytesFormat:
    """One that is read from bytes. `is_one` looks at the first bytes of any file, whatever it is called."""

    kind: str
    suffixes: frozenset[str]
    read: Callable[[bytes], FileTexts]
    is_one: Callable[[bytes], bool]


OF_BYTES = (
    BytesFormat("PDF", frozenset({".pdf"}), pdf, is_pdf),
    BytesFormat("Word document", frozenset({".docx", ".docm"}), docx, is_docx),
    BytesFormat("OpenDocument text", frozenset({".odt", ".ott", ".fodt"}), odt, is_odt),
    BytesFormat("EPUB", frozenset({".epub"}), epub, is_epub),
    BytesFormat("rich text", frozenset({".rtf"}), rtf, is_rtf),
    BytesFormat("mail box", frozenset({".mbox", ".mbx"}), mbox, is_mbox),
    BytesFormat("mail", frozenset({".emlx"}), emlx, is_emlx),
    BytesFormat("mail", frozenset({".eml"}), mail, is_mail),
)
PAGES = frozenset({".html", ".htm", ".xhtml"})
OF_TEXT: Mapping[str, tuple[str, Callable[[str], FileTexts]]] = MappingProxyType(
    dict.fromkeys(PAGES, ("HTML", page))
    | dict.fromkeys((".md", ".markdown"), ("Markdown", markdown))
    | dict.fromkeys((".csv", ".tsv"), ("table", table))
    | {".org": ("Org", org), ".tex": ("LaTeX", tex)}
)
OF_FILES: Mapping[str, tuple[str, Callable[[bytes, str, Budget], Iterator[PackedFile]]]] = MappingProxyType(
    {suffix: (kind, archive.unpacked) for suffix, kind in archive.SINGLE.items()}
    | {".zip": ("zip", archive.unzipped)}
    | dict.fromkeys(archive.TARS, ("tar", archive.untarred))
)


def read_bytes(data: bytes, name: str) -> FileTexts | None:
    """The texts of a file that knows its own encoding, or why it has none; None for every other file."""
    suffix = PurePath(name).suffix.lower()
    found = next((one for one in OF_BYTES if suffix in one.suffixes or one.is_one(data)), None)
    if found is None:
        return None
    return _or_reason(lambda: read_by(found.kind, lambda: found.read(data)))


def read_text(text: str, name: str) -> FileTexts | None:
    """What of a decoded text is text; None if all of it is."""
    if (of_notebook := notebook(text)) is not None:
        return of_notebook
    found = OF_TEXT.get(PurePath(name).suffix.lower())
    if found is None:
        return None
    kind, read = found
    return _or_reason(lambda: read_by(kind, lambda: read(text)))


def declared(data: bytes, name: str) -> str:
    """The encoding that a file of text names for itself; empty if its format has no place for that."""
    return declared_encoding(data) if PurePath(name).suffix.lower() in PAGES else ""


def members(data: bytes, name: str, budget: Budget) -> Iterator[PackedFile] | None:
    """The files that are packed into one, unpacked while they are asked for; None if it is no archive.

    The budget is that of the outermost archive, and is used up.

    An archive that is broken in the middle, or that unpacks to too much, ends with a member that has the reason.
    """
    lower = PurePath(name).name.lower()
    suffix = next((suffix for suffix in (*archive.TARS, *OF_FILES) if lower.endswith(suffix)), None)
    if suffix is None:
        return None
    kind, read = OF_FILES[suffix]
    return _told(kind, read(data, name, budget), len(data))


def _told(kind: str, found: Iterator[PackedFile], size_bytes: int) -> Iterator[PackedFile]:
    while True:
        try:
            member = read_by(kind, lambda: next(found, None))
        except FormatError as error:
            yield PackedFile("", b"", str(error), size_bytes)
            return
        if member is None:
            return
        yield member


def _or_reason(read: Callable[[], FileTexts]) -> FileTexts:
    try:
        return read()
    except FormatError as error:
        return FileTexts(reason=str(error))
