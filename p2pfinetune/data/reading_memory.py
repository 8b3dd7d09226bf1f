"""What earlier readings found in each file, so that only what has changed is opened, cleaned and cut again.

A file is the same if device, inode, size, time of change and time of the inode's change are the same, and it had
been at rest when it was read: a change within the same tick of the file system's clock leaves no trace in its times
(the "racy git" problem, https://git-scm.com/docs/racy-git). A file that was not at rest is opened again, and where its
bytes have the same digest, nothing else is done again. The memory lives as long as the worker: it can only cost time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from p2pfinetune.data.files import FoundFile
from p2pfinetune.data.pieces import FileContent

AT_REST_NS = 3_000_000_000  # FAT counts in steps of two seconds; all others in finer ones
MOST_WASTE, LEAST_WASTE_BYTES = 2, 64 << 20  # laid aside on disk, for so much that is remembered
MAX_CHARACTERS = 128 << 20  # of remembered text; files beyond it are read every time


@dataclass(frozen=True, slots=True)
class Remembered:
    """One file as it was read the last time."""

    found: FoundFile
    at_rest: bool
    digest: bytes
    content: FileContent


@dataclass(slots=True)
class ReadingMemory:
    """Give the same one to each reading of the same paths. Whatever is not met again is forgotten."""

    files: dict[Path, Remembered] = field(default_factory=dict)
    """Of the reading before."""
    _now: dict[Path, Remembered] = field(default_factory=dict)
    _characters: int = 0

    def unchanged(self, found: FoundFile) -> FileContent | None:
        """What the file holds, if it need not be opened."""
        before = self.files.get(found.path)
        if before is None or not before.at_rest or before.found != found:
            return None
        self._keep(before)
        return before.content

    def same(self, found: FoundFile, digest: bytes, now_ns: int) -> FileContent | None:
        """What a file with these bytes holds, if they are those of the last time."""
        before = self.files.get(found.path)
        if before is None or before.digest != digest:
            return None
        self.learn(found, digest, before.content, now_ns)
        return before.content

    def learn(self, found: FoundFile, digest: bytes, content: FileContent, now_ns: int) -> None:
        """`now_ns` is the time before the files were looked at, in nanoseconds since 1970."""
        self._keep(Remembered(found, is_at_rest(found, now_ns), digest, content))

    def _keep(self, one: Remembered) -> None:
        size, path = _characters(one.content), one.found.path
        if (other := self._now.pop(path, None)) is not None:
            self._characters -= _characters(other.content)
        if self._characters + size <= MAX_CHARACTERS:
            self._characters += size
            self._now[path] = one

    def turn(self) -> None:
        """A reading is over; the next one is compared with it, unless most of what was laid aside is of no use."""
        self.files, self._now, self._characters = self._now, {}, 0
        if is_mostly_waste(one.content for one in self.files.values()):
            self.files = {}


def _characters(content: FileContent) -> int:
    """Held in memory."""
    return sum(len(document.held) for document in content.documents if isinstance(document.held, str))


def is_mostly_waste(contents: Iterable[FileContent]) -> bool:
    """Whether the files in which texts were laid aside hold much more than those that are remembered."""
    spooled = [d.held for content in contents for d in content.documents if not isinstance(d.held, str)]
    there: int = sum(spool.size_bytes for spool in {one.spool for one in spooled})
    return there > MOST_WASTE * sum(one.size_bytes for one in spooled) + LEAST_WASTE_BYTES


def is_at_rest(found: FoundFile, now_ns: int) -> bool:
    """Whether a later change would show in its times; a time in the future says nothing."""
    return max(found.changed_ns, found.inode_changed_ns) + AT_REST_NS <= now_ns
