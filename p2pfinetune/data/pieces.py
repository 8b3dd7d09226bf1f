"""The text of one file as documents, whatever other files hold. Pure.

A text file is one document, a row of a .jsonl file is one document, and what is long is cut into blocks that are
documents of their own (see `blocks`). The id of a document is the SHA-256 of its text, so that it never depends on a
file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pfinetune.data import blocks
from p2pfinetune.data.encodings import FileText
from p2pfinetune.data.guess import Evidence
from p2pfinetune.data.report import NOTHING, TEXT_FIELDS
from p2pfinetune.names import Digest

ROW_SUFFIXES = (".jsonl", ".ndjson")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
TRAILING_BLANKS = re.compile(r"[ \t\v\f]+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that is trained on, scored or held out as a whole. `source` tells people where it was found."""

    id: Digest
    text: str
    source: str

    @classmethod
    def of(cls, text: str, source: str) -> Document:
        """A document whose id is the digest of this very text."""
        return cls(Digest(hashlib.sha256(text.encode()).hexdigest()), text, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What one file holds; see `report.FileRead` for the fields."""

    documents: tuple[Document, ...] = ()
    reason: str = ""
    """Why there are none; empty where there are some."""
    bad_rows: int = 0
    encoding: str = ""
    replaced: int = 0
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    evidence: Evidence | None = None
    """By which the encoding was guessed; None where the file or somebody tells it."""


def content_of(read: FileText, path: Path) -> FileContent:
    """The documents of a file, and what is to be said of it."""
    pieces, bad_rows = _rows(read.text, path) if is_rows(path, read.text) else (_file(read.text, path), 0)
    return FileContent(
        documents=tuple(pieces),
        reason="" if pieces else "no text in it" if bad_rows else "empty",
        bad_rows=bad_rows,
        encoding=read.encoding,
        replaced=read.replaced,
    )


def _file(text: str, path: Path) -> list[Document]:
    return [Document.of(block, str(path)) for block in blocks.cut(normalise(text))]


def _rows(text: str, path: Path) -> tuple[list[Document], int]:
    """The documents of the rows, and how many rows gave none."""
    pieces: list[Document] = []
    bad_rows = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        content = row_text(line)
        bad_rows += content is None
        pieces += [Document.of(block, f"{path}:{number}") for block in blocks.cut(normalise(content or ""))]
    return pieces, bad_rows


def normalise(text: str) -> str:
    """Newlines as line ends, no white space before them, no blank lines around: editors differ in these."""
    text = LONE_SURROGATES.sub("\ufffd", text)  # JSON can spell them, UTF-8 and tokenizers cannot
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return TRAILING_BLANKS.sub("", text).strip("\n")


def is_rows(path: Path, text: str) -> bool:
    """Whether every line is a JSON value: by suffix, or because the first lines are objects with a text."""
    if path.suffix.lower() in ROW_SUFFIXES:
        return True
    first = [line for line in text[:65_536].split("\n", 4)[:3] if line.strip()]
    return len(first) >= 2 and all(line.lstrip().startswith("{") and row_text(line) is not None for line in first)


def row_text(line: str) -> str | None:
    """The text of one row: a JSON string, or the first of the usual fields that holds one."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, dict):
        row = next((row[name] for name in TEXT_FIELDS if isinstance(row.get(name), str)), None)
    return row if isinstance(row, str) and row.strip() else None
