"""Read the user's files and folders into documents, each once, and report what became of every file.

What a single file holds is decided in `opening` and `pieces`; here files are found, opened where they have changed
since the last reading (see `reading_memory`), and documents that are met twice are taken once. Nothing is tokenised or
dealt here.

Two passes, since an encoding may have to be asked of a file's folder: what tells its own encoding is taken at once, and
the rest when all of it has been weighed (`guess.settle`). One file that cannot be read never stops a reading; it is a
row of the report with a reason. Equal text in two files is one document, and is trained on once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePath

from p2pfinetune.data.encodings import NO_NAMES, decoded, named, without_padding
from p2pfinetune.data.files import FoundFile, Skipped, walk
from p2pfinetune.data.guess import settle
from p2pfinetune.data.opening import content_of_bytes
from p2pfinetune.data.pieces import Document, FileContent, TextChoices, content_of, normalise
from p2pfinetune.data.reading_memory import ReadingMemory
from p2pfinetune.data.report import UNKNOWN, FileRead, ReadReport
from p2pfinetune.data.second_opinion import second_opinion
from p2pfinetune.data.spool import TextSpool
from p2pfinetune.data.telling import FINDING, READING, Tell, each, silent
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest
from p2pfinetune.system.path_names import shown

__all__ = ["Document", "normalise", "read_documents"]

MAX_TOTAL_BYTES = 1 << 30  # of all files together
MAX_FILES = 1_000_000  # each is a row of the report, of about a kilobyte


def read_documents(
    paths: Sequence[Path],
    memory: ReadingMemory | None = None,
    now_ns: int = 0,
    encodings: Mapping[PurePath, str] = NO_NAMES,
    *,
    me: str = "",
    keep_secrets: bool = False,
    spool: Path | None = None,
    tell: Tell = silent,
) -> tuple[list[Document], ReadReport]:
    """Every distinct document below the paths, in the order found. Raises TextError for a path that does not exist.

    `memory` is that of earlier readings, and `now_ns` the time since 1970, by which it tells files at rest; without
    them every file is opened. `encodings` is what somebody said of text that is not Unicode, by file or folder, and
    `me` the user's name in exports of messengers, whose lines are answers then. With `keep_secrets` lines that look
    like passwords or tokens stay. Texts that are too many to be held lie in the folder `spool`, if there is one. `tell`
    hears how far it is.
    """
    reading = _Reading(memory or ReadingMemory(), now_ns, encodings, TextChoices(me, keep_secrets), TextSpool(spool))
    every = list(islice(each(walk(paths), tell, FINDING), MAX_FILES + 1))
    if len(every) > MAX_FILES:
        raise TextError(f"there are more than {MAX_FILES:,} files and folders", "name fewer of them with --data")
    for found in each(every, tell, READING, len(every)):
        reading.look(found)
    reading.settle()
    reading.memory.turn()
    return list(reading.documents.values()), ReadReport(tuple(reading.entries))


@dataclass(slots=True)
class _Reading:
    """The state of one `read_documents`. First every file is looked at, then those are read whose folder decides."""

    memory: ReadingMemory
    now_ns: int
    encodings: Mapping[PurePath, str]
    choices: TextChoices
    spool: TextSpool
    looked: list[tuple[FoundFile | Skipped, FileContent]] = field(default_factory=list)
    documents: dict[Digest, Document] = field(default_factory=dict)
    entries: list[FileRead] = field(default_factory=list)
    total_bytes: int = 0

    def look(self, found: FoundFile | Skipped) -> None:
        """What is in a file, as far as it can be said without its neighbours."""
        self.looked.append((found, self._content(found)))

    def _content(self, found: FoundFile | Skipped) -> FileContent:
        if isinstance(found, Skipped):
            return FileContent(reason=found.reason)
        if self.total_bytes + found.size_bytes > MAX_TOTAL_BYTES:
            return FileContent(reason=f"beyond {MAX_TOTAL_BYTES >> 20} MiB in all")
        content = self.memory.unchanged(found) or self._read(found)
        characters = sum(document.characters for document in content.documents)
        self.total_bytes += max(found.size_bytes, characters) if content.documents or content.evidence else 0
        return content

    def _read(self, found: FoundFile) -> FileContent:
        try:
            data = found.path.read_bytes()
        except OSError:
            return FileContent(reason="unreadable")
        digest = hashlib.sha256(data).digest()
        content = self.memory.same(found, digest, self.now_ns)
        if content is None:
            content = content_of_bytes(data, found.path, named(found.path, self.encodings), self.choices)
            content = self._laid_aside(content)
            self.memory.learn(found, digest, content, self.now_ns)
        return content

    def _laid_aside(self, content: FileContent) -> FileContent:
        """With texts on disk, as far as there are too many to be held."""
        kept = tuple(replace(document, held=self.spool.keep(document.text)) for document in content.documents)
        return replace(content, documents=kept)

    def settle(self) -> None:
        """Give the files that are not Unicode their encodings, and take the documents of all."""
        weighed = {found.path: content.evidence for found, content in self.looked if content.evidence}
        chosen = settle(weighed)
        for found, content in self.looked:
            self.enter(found.path, self._settled(found, content, chosen.get(found.path)))

    def _settled(self, found: FoundFile | Skipped, content: FileContent, encoding: str | None) -> FileContent:
        """The content in that encoding; as it is, if it is that already."""
        if content.evidence is None or isinstance(found, Skipped):
            return content
        if content.encoding == encoding or (encoding is None and content.second is not None):
            return content
        try:
            data = found.path.read_bytes()
        except OSError:
            return FileContent(reason="unreadable")
        if encoding is None:
            settled = FileContent(reason=UNKNOWN, evidence=content.evidence, second=second_opinion(data))
        else:
            text = decoded(without_padding(data), encoding)
            settled = self._laid_aside(replace(content_of(text, found.path, self.choices), evidence=content.evidence))
        self.memory.learn(found, hashlib.sha256(data).digest(), settled, self.now_ns)
        return settled

    def enter(self, path: Path, content: FileContent) -> None:
        """Take the documents that are new, and write down what became of the file."""
        fresh = [document for document in content.documents if self._keep(document)]
        new = {document.id for document in fresh}
        self.entries.append(
            FileRead(
                path=shown(path),
                reason=content.reason or ("" if fresh else "duplicate"),
                documents=len(fresh),
                ids=tuple(document.id for document in fresh),
                conversations=sum(bool(document.turns) for document in fresh),
                characters=sum(document.characters for document in fresh),
                repeated=len(content.documents) - len(fresh),
                again=tuple({d.id: None for d in content.documents if d.id not in new}),
                bad_rows=content.bad_rows,
                encoding=content.encoding,
                replaced=content.replaced,
                guesses=_guesses(content),
                left_out=content.left_out,
            )
        )

    def _keep(self, document: Document) -> bool:
        if document.id in self.documents:
            return False
        self.documents[document.id] = document
        return True


def _guesses(content: FileContent) -> tuple[str, ...]:
    if content.evidence is None:
        return ()
    second = (content.second,) if content.second else ()
    return tuple(dict.fromkeys((*content.evidence.guesses(content.encoding), *second)))
