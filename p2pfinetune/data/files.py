"""Walk files and folders, and read one file. Decides nothing about documents or splits; see `encodings` for its bytes.

A name says little about what a file holds, so text is told from other things by content: byte-order marks, NUL bytes,
control characters. What is no text, too large, unreadable or hidden comes back with a reason and never as an exception.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.data import own_files
from p2pfinetune.data.encodings import FileText, decode
from p2pfinetune.errors import TextError
from p2pfinetune.system.path_names import shown

MAX_FILE_BYTES = 256 << 20  # a larger file is a data base or a dump, and would be held in memory several times over
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})  # other people's text, or none
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"  # its folder is a Python environment (PEP 405)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file of bearable size, not opened yet."""

    path: Path
    size_bytes: int
    changed_ns: int
    """Of its content, since 1970; anybody may set it."""
    inode_changed_ns: int
    """Of anything about it; the system alone sets it."""
    inode: tuple[int, int]
    """Device and number."""


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
            raise TextError(f"there is no file or folder {shown(path)}", "check the path given with --data") from error
        except OSError:
            pass  # it is there; `_look` says why it is of no use
        yield from _below(path, seen)


def _below(root: Path, seen: set[tuple[int, int]]) -> Iterator[FoundFile | Skipped]:
    waiting: list[Path | Skipped] = [root]  # not recursive: folders can nest deeper than Python calls
    while waiting:
        path = waiting.pop()
        if isinstance(path, Skipped):
            yield path
            continue
        if path != root and path.name.startswith("."):
            yield Skipped(path, "hidden")
            continue
        found = _look(path, seen)
        if isinstance(found, tuple):
            waiting.extend(reversed(found))
        else:
            yield found


def _look(path: Path, seen: set[tuple[int, int]]) -> FoundFile | Skipped | tuple[Path | Skipped, ...]:
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
    return FoundFile(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns, (about.st_dev, about.st_ino))


def _inside(folder: Path) -> Skipped | tuple[Path | Skipped, ...]:
    inside = sorted(folder.iterdir())
    if folder.name in SKIPPED_FOLDERS or any(path.name == VIRTUAL_ENVIRONMENT for path in inside):
        return Skipped(folder, "installed packages")
    reasons = own_files.left_out([path.name for path in inside])
    if inside and len(reasons) == len(inside):
        return Skipped(folder, reasons[inside[0].name])
    return tuple(Skipped(path, reasons[path.name]) if path.name in reasons else path for path in inside)


def read_text(path: Path) -> FileText | Skipped:
    """The text of a file that has no neighbours and its encoding, or why it has none."""
    try:
        data = path.read_bytes()
    except OSError:
        return Skipped(path, "unreadable")
    return decode(data) or Skipped(path, "not text")
