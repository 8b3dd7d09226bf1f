"""Read the user's files and folders into documents, each once, and report everything that was left out.

A text file is one document, a row of a .jsonl file is one document, and what is long is cut into blocks that are
documents of their own (see `blocks`). The id of a document is the SHA-256 of its text, so that it never depends on a
file's name. Nothing is tokenised or dealt here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from p2pfinetune.data import blocks
from p2pfinetune.data.files import FoundFile, Skipped, read_text, walk
from p2pfinetune.names import Digest

TEXT_FIELDS = ("text", "content", "body", "message", "sentence")  # the first one that holds a string is a row's text
ROW_SUFFIXES = (".jsonl", ".ndjson")
MAX_TOTAL_BYTES = 1 << 30  # of all files together: the text is held in memory while it is tokenised
NAMED_PATHS = 3  # so many examples of each reason stand in a report for people
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


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What was read and what was not."""

    files: int
    """Files that gave at least one document."""
    documents: int
    skipped: Mapping[str, tuple[str, ...]]
    """Paths by the reason why they were left out."""
    repeated: int = 0
    """Documents equal to an earlier one."""
    bad_rows: int = 0
    """Rows of .jsonl files that are no JSON or have no text."""

    def sentences(self) -> list[str]:
        """The report in plain words, a line each."""
        lines = [f"{_count(self.documents, 'document')} from {_count(self.files, 'file')}"]
        for reason, paths in sorted(self.skipped.items()):
            rest = len(paths) - NAMED_PATHS
            named = ", ".join(paths[:NAMED_PATHS]) + (f" and {rest} more" if rest > 0 else "")
            lines.append(f"{_count(len(paths), 'path')} skipped ({reason}): {named}")
        if self.repeated:
            lines.append(f"{_count(self.repeated, 'document')} skipped because an equal one was read before")
        if self.bad_rows:
            lines.append(
                f"{_count(self.bad_rows, 'row')} skipped: no JSON, or none of the fields {', '.join(TEXT_FIELDS)}"
            )
        return lines


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def read_documents(paths: Sequence[Path]) -> tuple[list[Document], ReadReport]:
    """Every distinct document below the paths, in the order found. Raises TextError for a path that does not exist."""
    reading = _Reading()
    for found in walk(paths):
        if isinstance(found, Skipped):
            reading.skip(found.path, found.reason)
        else:
            reading.take(found)
    return list(reading.documents.values()), reading.report()


def normalise(text: str) -> str:
    """Newlines as line ends, no white space before them, no blank lines around: editors differ in these."""
    text = LONE_SURROGATES.sub("\ufffd", text)  # JSON can spell them, UTF-8 and tokenizers cannot
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return TRAILING_BLANKS.sub("", text).strip("\n")


@dataclass(slots=True)
class _Reading:
    """The state of one `read_documents`."""

    documents: dict[Digest, Document] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    files: int = 0
    repeated: int = 0
    bad_rows: int = 0
    total_bytes: int = 0

    def skip(self, path: Path, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(str(path))

    def take(self, found: FoundFile) -> None:
        if self.total_bytes + found.size_bytes > MAX_TOTAL_BYTES:
            self.skip(found.path, f"beyond {MAX_TOTAL_BYTES >> 20} MiB in all")
            return
        read = read_text(found.path)
        if isinstance(read, Skipped):
            self.skip(read.path, read.reason)
            return
        text = read.text
        self.total_bytes += found.size_bytes
        rows = is_rows(found.path, text)
        pieces = list(self._rows(text, found.path) if rows else _file(text, found.path))
        kept = sum(self._keep(piece) for piece in pieces)
        if kept:
            self.files += 1
        else:
            self.skip(found.path, "duplicate" if pieces else "no text in it" if rows else "empty")

    def _rows(self, text: str, path: Path) -> Iterator[Document]:
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            content = row_text(line)
            if content is None:
                self.bad_rows += 1
                continue
            for block in blocks.cut(normalise(content)):
                yield Document.of(block, f"{path}:{number}")

    def _keep(self, document: Document) -> bool:
        if document.id in self.documents:
            self.repeated += 1
            return False
        self.documents[document.id] = document
        return True

    def report(self) -> ReadReport:
        skipped = MappingProxyType({reason: tuple(paths) for reason, paths in self.skipped.items()})
        return ReadReport(self.files, len(self.documents), skipped, self.repeated, self.bad_rows)


def _file(text: str, path: Path) -> Iterator[Document]:
    for block in blocks.cut(normalise(text)):
        yield Document.of(block, str(path))


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
