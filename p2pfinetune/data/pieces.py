"""The text of one file as documents, whatever other files hold. Pure.

A text file is one document, a row of a .jsonl file is one document, and what is long is cut into blocks that are
documents of their own (see `blocks`). The id of a document is the SHA-256 of its text, so that it never depends on a
file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from p2pfinetune.data import blocks, own_files
from p2pfinetune.data.chats.turns import ChatTurn
from p2pfinetune.data.encodings import FileText
from p2pfinetune.data.guess import Evidence
from p2pfinetune.data.machine_text import Cleaned, cleaned, cleaned_file
from p2pfinetune.data.report import NOTHING, TEXT_FIELDS
from p2pfinetune.names import Digest
from p2pfinetune.system.path_names import shown

ROW_SUFFIXES = (".jsonl", ".ndjson")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
TRAILING_BLANKS = re.compile(r"(?<![ \t\v\f])[ \t\v\f]++$", re.MULTILINE)  # each run of blanks is looked at once


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that is trained on, scored or held out as a whole. `source` tells people where it was found."""

    id: Digest
    text: str
    source: str
    turns: tuple[ChatTurn, ...] = ()
    """Of a conversation, whose `text` is what was said without who said it; none if it is no conversation."""

    @classmethod
    def of(cls, text: str, source: str) -> Document:
        """A document whose id is the digest of this very text."""
        return cls(Digest(hashlib.sha256(text.encode()).hexdigest()), text, source)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What one file holds; see `report.FileRead` for the fields."""

    documents: tuple[Document, ...] = ()
    reason: str = ""
    """Why there are none; empty if there are some."""
    bad_rows: int = 0
    encoding: str = ""
    replaced: int = 0
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    evidence: Evidence | None = None
    """By which the encoding was guessed; None if the file or somebody tells it."""
    second: str | None = None
    """What another guesser takes it for, if ours stays open; None if it was not asked."""


def content_of(read: FileText, path: Path) -> FileContent:
    """The documents of a file, and what is to be said of it."""
    if own_files.is_log(read.text):
        return FileContent(reason=own_files.OWN, encoding=read.encoding, replaced=read.replaced)
    found = _Pieces()
    if is_rows(path, read.text):
        found.take_rows(read.text, path)
    else:
        found.take(cleaned_file(read.text, path.name), shown(path))
    return FileContent(
        documents=tuple(found.documents),
        reason=found.reason(),
        bad_rows=found.bad_rows,
        encoding=read.encoding,
        replaced=read.replaced,
        left_out=found.left_out or NOTHING,
    )


@dataclass(slots=True)
class _Pieces:
    """What has been found in one file."""

    documents: list[Document] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    bad_rows: int = 0

    def take(self, text: Cleaned, source: str) -> None:
        self.left_out.update(text.left_out)
        self.documents += [Document.of(block, source) for block in blocks.cut(normalise(text.text))]

    def take_rows(self, text: str, path: Path) -> None:
        name = shown(path)
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                content = row_text(line)
                self.bad_rows += content is None
                self.take(cleaned(content or ""), f"{name}:{number}")

    def reason(self) -> str:
        """Why there are no documents: what most of the text was, where something was left out of it."""
        if self.documents:
            return ""
        if self.left_out:
            return self.left_out.most_common(1)[0][0]
        return "no text in it" if self.bad_rows else "empty"


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
