"""Walk files and folders, and read one file. Decides nothing about documents or splits; see `encodings` for its bytes.

A name says little about what a file holds, so text is told from other things by content: byte-order marks, NUL bytes,
control characters. What is no text, too large, unreadable, hidden, ignored (`ignored`) or a program's own (`own_files`)
comes back with a reason and never as an exception.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.data import own_files
from p2pfinetune.data.encodings import FileText, decode
from p2pfinetune.data.ignored import IGNORED, INSTALLED, VIRTUAL_ENVIRONMENT, IgnoreRules, made_or_installed
from p2pfinetune.errors import TextError
from p2pfinetune.system.path_names import shown

MAX_FILE_BYTES = 256 << 20  # a larger file is a data base or a dump, and would be held in memory several times over


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


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A path to look at, and what is said of it."""

    path: Path
    rules: IgnoreRules
    reason: str = ""
    """Why it is not read, whatever it is."""
    reason_of_folder: str = ""
    """Why it is not read if it is a folder."""
    is_named: bool = False
    """By the user: then it is read, whatever it is called and whatever ignores it."""


def _below(root: Path, seen: set[tuple[int, int]]) -> Iterator[FoundFile | Skipped]:
    waiting = [_Waiting(root, IgnoreRules(), is_named=True)]  # not recursive: folders can nest deeper than Python calls
    while waiting:
        one = waiting.pop()
        if one.reason:
            yield Skipped(one.path, one.reason)
            continue
        found = _look(one, seen)
        if isinstance(found, tuple):
            waiting.extend(reversed(found))
        else:
            yield found


def _look(one: _Waiting, seen: set[tuple[int, int]]) -> FoundFile | Skipped | tuple[_Waiting, ...]:
    """What a path is; for a folder, what is inside."""
    path = one.path
    try:
        about = path.stat()
        is_folder = stat.S_ISDIR(about.st_mode)
        if is_folder and one.reason_of_folder:
            return Skipped(path, one.reason_of_folder)
        if one.rules.ignores(path, is_folder=is_folder):
            return Skipped(path, IGNORED)
        if (about.st_dev, about.st_ino) in seen:
            return Skipped(path, "already read")
        found = _inside(one) if is_folder else _regular(path, about)
    except OSError:  # no permission, a dangling link, or one that leads to itself
        return Skipped(path, "broken link" if path.is_symlink() else "unreadable")
    if not isinstance(found, Skipped):  # what is left out here may be named by itself
        seen.add((about.st_dev, about.st_ino))
    return found


def _regular(path: Path, about: os.stat_result) -> FoundFile | Skipped:
    if not stat.S_ISREG(about.st_mode):
        return Skipped(path, "no regular file")  # opening a named pipe would wait for ever
    if about.st_size > MAX_FILE_BYTES:
        return Skipped(path, f"larger than {MAX_FILE_BYTES >> 20} MiB")
    if about.st_size == 0:
        return Skipped(path, "empty")
    return FoundFile(path, about.st_size, about.st_mtime_ns, about.st_ctime_ns, (about.st_dev, about.st_ino))


def _inside(one: _Waiting) -> Skipped | tuple[_Waiting, ...]:
    inside = sorted(one.path.iterdir())
    names = {path.name for path in inside}
    if VIRTUAL_ENVIRONMENT in names and not one.is_named:
        return Skipped(one.path, INSTALLED)
    reasons = own_files.left_out(names)
    if inside and len(reasons) == len(inside):
        return Skipped(one.path, reasons[inside[0].name])
    rules, made = one.rules.below(one.path, names), made_or_installed(names)
    return tuple(_Waiting(path, rules, _reason(path.name, reasons), made.get(path.name, "")) for path in inside)


def _reason(name: str, reasons: Mapping[str, str]) -> str:
    return reasons.get(name) or ("hidden" if name.startswith(".") else "")


def read_text(path: Path) -> FileText | Skipped:
    """The text of a file that has no neighbours and its encoding, or why it has none."""
    try:
        data = path.read_bytes()
    except OSError:
        return Skipped(path, "unreadable")
    return decode(data) or Skipped(path, "not text")
