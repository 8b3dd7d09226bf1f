"""Walk files and folders, and turn the bytes of one file into text. Decides nothing about documents or splits.

A name says little about what a file holds, so text is told from other things by content: byte-order marks, NUL bytes,
control characters. What is no text, too large, unreadable or hidden comes back with a reason and never as an exception.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.errors import TextError

MAX_FILE_BYTES = 256 << 20  # a larger file is a data base or a dump, and would be held in memory several times over
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})  # other people's text, or none
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"  # its folder is a Python environment (PEP 405)
FORMATTED = (b"%PDF-", b"{\\rtf", b"%!PS")  # formats whose bytes may look like text but are not what their reader sees
MAX_CONTROL_SHARE = 0.01  # random bytes have about a tenth, and text hardly any
MAX_HIGH_SHARE = 0.25  # of bytes above 127 in a Western European single-byte text; French has about 5 %, Cyrillic 80 %
SAMPLE = 65_536  # characters or bytes from the beginning by which the rest is judged
HIGH = re.compile(rb"[\x80-\xff]")
CONTROL = re.compile(r"[\0-\x07\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")  # but white space, backspace and escape


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file of bearable size, not opened yet."""

    path: Path
    size_bytes: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that is not used. `reason` is a short fixed phrase that is counted."""

    path: Path
    reason: str


def walk(paths: Sequence[Path]) -> Iterator[FoundFile | Skipped]:
    """Every file below the paths once, in sorted order, links followed and loops left. Raises TextError for no path."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise TextError(f"there is no file or folder {path}", "check the path given with --data") from error
        except OSError:
            pass  # it is there; `_look` says why it is of no use
        yield from _below(path, seen)


def _below(root: Path, seen: set[tuple[int, int]]) -> Iterator[FoundFile | Skipped]:
    waiting = [root]  # not recursive: folders can nest deeper than Python calls
    while waiting:
        path = waiting.pop()
        if path != root and path.name.startswith("."):
            yield Skipped(path, "hidden")
            continue
        found = _look(path, seen)
        if isinstance(found, tuple):
            waiting.extend(reversed(found))
        else:
            yield found


def _look(path: Path, seen: set[tuple[int, int]]) -> FoundFile | Skipped | tuple[Path, ...]:
    """What a path is; for a folder, what is inside."""
    try:
        about = path.stat()
        inode = (about.st_dev, about.st_ino)
        if inode in seen:
            return Skipped(path, "already read")
        seen.add(inode)
        return _inside(path) if stat.S_ISDIR(about.st_mode) else _regular(path, about)
    except OSError:  # no permission, a dangling link, or one that leads to itself
        return Skipped(path, "broken link" if path.is_symlink() else "unreadable")


def _regular(path: Path, about: os.stat_result) -> FoundFile | Skipped:
    if not stat.S_ISREG(about.st_mode):
        return Skipped(path, "no regular file")  # opening a named pipe would wait for ever
    if about.st_size > MAX_FILE_BYTES:
        return Skipped(path, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    if about.st_size == 0:
        return Skipped(path, "empty")
    return FoundFile(path, about.st_size, about.st_mtime_ns)


def _inside(folder: Path) -> Skipped | tuple[Path, ...]:
    inside = sorted(folder.iterdir())
    if folder.name in SKIPPED_FOLDERS or any(path.name == VIRTUAL_ENVIRONMENT for path in inside):
        return Skipped(folder, "installed packages")
    return tuple(inside)


def read_text(path: Path) -> str | Skipped:
    """The text of a file with newlines as line ends and no byte-order mark, or why it has none."""
    try:
        data = path.read_bytes()
    except OSError:
        return Skipped(path, "unreadable")
    text = decode(data)
    if text is None:
        return Skipped(path, "not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode(data: bytes) -> str | None:
    """Unicode by its byte-order mark, then UTF-8, then CP1252 and Latin-1; None for what is not text."""
    marked = _decode_marked(data)
    if marked is not None:
        return marked
    if b"\0" in data or data.startswith(FORMATTED):
        return None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = _decode_western(data)
    return text if _looks_like_text(text) else None


def _decode_marked(data: bytes) -> str | None:
    # UTF-32's little-endian mark begins with UTF-16's, so it is asked first
    marks = [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ]
    for mark, encoding in marks:
        if data.startswith(mark):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                continue
            return text if _looks_like_text(text) else None
    return None


def _decode_western(data: bytes) -> str:
    sample = data[:SAMPLE]
    if len(HIGH.findall(sample)) > MAX_HIGH_SHARE * len(sample):
        return "\0"  # some other encoding: guessing would train on nonsense
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _looks_like_text(text: str) -> bool:
    sample = text[:SAMPLE]
    return "\0" not in sample and len(CONTROL.findall(sample)) <= MAX_CONTROL_SHARE * len(sample)
