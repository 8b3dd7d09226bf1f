"""Texts of documents laid aside on disk, so that a large folder need not be held in memory.

Each text is looked at a few times while a folder is read, and seldom after that. Up to HELD characters stay in memory,
as nearly everybody's notes do; what comes after is written to a file without a name in the folder of the token cache,
where the same text lies as token ids. The file is gone when nothing refers to it any more, however the process ends.
If the disk refuses, texts stay in memory: a reading must not fail where it did without.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

HELD = 32 << 20  # characters


@dataclass(frozen=True, slots=True, eq=False)
class SpooledText:
    """A text on disk."""

    spool: TextSpool
    begin: int
    size_bytes: int
    characters: int

    def read(self) -> str:
        """The text; OSError if the disk has lost it."""
        return self.spool.read(self.begin, self.size_bytes)


class TextSpool:
    """Texts of one reading. Not thread-safe."""

    def __init__(self, folder: Path | None, held: int = HELD) -> None:
        """`folder` is made if it is not there; None: everything is held."""
        self._folder, self._held = folder, held
        self._file: int | None = None
        self.size_bytes = 0
        """On disk."""

    def keep(self, text: str) -> str | SpooledText:
        """The text, or where it lies."""
        if self._held >= len(text) or self._folder is None:
            self._held -= len(text)
            return text
        data = text.encode()
        try:
            written = os.pwrite(self._opened(self._folder), data, self.size_bytes)
        except OSError:
            self._folder = None
            return text
        if written < len(data):
            return text
        found = SpooledText(self, self.size_bytes, len(data), len(text))
        self.size_bytes += len(data)
        return found

    def _opened(self, folder: Path) -> int:
        if self._file is None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file, path = tempfile.mkstemp(dir=folder)
            weakref.finalize(self, os.close, self._file)
            Path(path).unlink()
        return self._file

    def read(self, begin: int, size_bytes: int) -> str:
        """What was kept there."""
        assert self._file is not None
        data = os.pread(self._file, size_bytes, begin)
        if len(data) != size_bytes:
            raise OSError(f"{size_bytes} bytes of text were laid aside, and {len(data)} are there")
        return data.decode()
