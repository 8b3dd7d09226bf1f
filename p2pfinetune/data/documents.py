"""Read the user's files and folders into documents, each once, and report everything that was left out.

A text file is one document, a row of a .jsonl file is one document, and what is long is cut into blocks that are
documents of their own (see `blocks`). The id of a document is the SHA-256 of its text, so that it never depends on a
file's name. Nothing is tokenised or dealt here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pfinetune.data import blocks
from p2pfinetune.data.files import FoundFile, Skipped, read_text, walk
from p2pfinetune.data.report import TEXT_FIELDS, FileRead, ReadReport
from p2pfinetune.names import Digest

ROW_SUFFIXES = (".jsonl", ".ndjson")
MAX_TOTAL_BYTES = 1 << 30  # of all files together: the text is held in memory while it is tokenised
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
    entries: list[FileRead] = field(default_factory=list)
    total_bytes: int = 0

    def skip(self, path: Path, reason: str) -> None:
        self.entries.append(FileRead(path=str(path), reason=reason))

    def take(self, found: FoundFile) -> None:
        if self.total_bytes + found.size_bytes > MAX_TOTAL_BYTES:
            self.skip(found.path, f"beyond {MAX_TOTAL_BYTES >> 20} MiB in all")
            return
        read = read_text(found.path)
        if isinstance(read, Skipped):
            self.skip(read.path, read.reason)
            return
        self.total_bytes += found.size_bytes
        pieces, bad_rows = _pieces(read.text, found.path)
        fresh = [piece for piece in pieces if self._keep(piece)]
        self.entries.append(
            FileRead(
                path=str(found.path),
                reason="" if fresh else "duplicate" if pieces else "no text in it" if bad_rows else "empty",
                documents=len(fresh),
                characters=sum(len(piece.text) for piece in fresh),
                repeated=len(pieces) - len(fresh),
                bad_rows=bad_rows,
                encoding=read.encoding,
                replaced=read.replaced,
            )
        )

    def _keep(self, document: Document) -> bool:
        return self.documents.setdefault(document.id, document) is document

    def report(self) -> ReadReport:
        return ReadReport(tuple(self.entries))


def _pieces(text: str, path: Path) -> tuple[list[Document], int]:
    """The documents of one file, and how many of its rows gave none."""
    if not is_rows(path, text):
        return [Document.of(block, str(path)) for block in blocks.cut(normalise(text))], 0
    pieces: list[Document] = []
    bad_rows = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        content = row_text(line)
        bad_rows += content is None
        pieces += [Document.of(block, f"{path}:{number}") for block in blocks.cut(normalise(content or ""))]
    return pieces, bad_rows


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
