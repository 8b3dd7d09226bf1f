"""Read the user's files and folders into documents, each once, and report what became of every file.

What a single file holds is decided in `pieces`; here files are found, opened where they have changed since the last
reading (see `reading_memory`), and documents that are met twice are taken once. Nothing is tokenised or dealt here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from p2pfinetune.data.encodings import decode
from p2pfinetune.data.files import FoundFile, Skipped, walk
from p2pfinetune.data.pieces import Document, FileContent, content_of, normalise
from p2pfinetune.data.reading_memory import ReadingMemory
from p2pfinetune.data.report import FileRead, ReadReport
from p2pfinetune.names import Digest

__all__ = ["Document", "normalise", "read_documents"]

MAX_TOTAL_BYTES = 1 << 30  # of all files together: the text is held in memory while it is tokenised


def read_documents(
    paths: Sequence[Path], memory: ReadingMemory | None = None, now_ns: int = 0
) -> tuple[list[Document], ReadReport]:
    """Every distinct document below the paths, in the order found. Raises TextError for a path that does not exist.

    `memory` is that of earlier readings, and `now_ns` the time since 1970, by which it tells files at rest; without
    them every file is opened.
    """
    reading = _Reading(memory or ReadingMemory(), now_ns)
    for found in walk(paths):
        if isinstance(found, Skipped):
            reading.enter(found.path, FileContent(reason=found.reason))
        else:
            reading.take(found)
    reading.memory.turn()
    return list(reading.documents.values()), ReadReport(tuple(reading.entries))


@dataclass(slots=True)
class _Reading:
    """The state of one `read_documents`."""

    memory: ReadingMemory
    now_ns: int
    documents: dict[Digest, Document] = field(default_factory=dict)
    entries: list[FileRead] = field(default_factory=list)
    total_bytes: int = 0

    def take(self, found: FoundFile) -> None:
        if self.total_bytes + found.size_bytes > MAX_TOTAL_BYTES:
            self.enter(found.path, FileContent(reason=f"beyond {MAX_TOTAL_BYTES >> 20} MiB in all"))
            return
        content = self.memory.unchanged(found) or self._read(found)
        self.total_bytes += found.size_bytes if content.documents else 0
        self.enter(found.path, content)

    def _read(self, found: FoundFile) -> FileContent:
        try:
            data = found.path.read_bytes()
        except OSError:
            return FileContent(reason="unreadable")
        digest = hashlib.sha256(data).digest()
        content = self.memory.same(found, digest, self.now_ns)
        if content is None:
            text = decode(data)
            content = content_of(text, found.path) if text else FileContent(reason="not text")
            self.memory.learn(found, digest, content, self.now_ns)
        return content

    def enter(self, path: Path, content: FileContent) -> None:
        """Take the documents that are new, and write down what became of the file."""
        fresh = [document for document in content.documents if self._keep(document)]
        self.entries.append(
            FileRead(
                path=str(path),
                reason=content.reason or ("" if fresh else "duplicate"),
                documents=len(fresh),
                characters=sum(len(document.text) for document in fresh),
                repeated=len(content.documents) - len(fresh),
                bad_rows=content.bad_rows,
                encoding=content.encoding,
                replaced=content.replaced,
                left_out=content.left_out,
            )
        )

    def _keep(self, document: Document) -> bool:
        if document.id in self.documents:
            return False
        self.documents[document.id] = document
        return True
