"""One way to write a file whole: what a power cut must not undo, and what a reader must never see half.

A file is written beside its place under a name that nobody else has, its content is synced, it is renamed into place
(or linked there, when it must not take another's place), and then the folder is synced, since a name is certain only
after that. So a reader finds the old file or the new one, and after the last step the new one alone. A write that
fails removes what it began; a process that is killed leaves a file that `unfinished` finds.

`step` is entered around each thing done, by its name: the daemon's fault points (`peerd.machine.faults.within`).
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from glob import escape
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600
TEMPORARY: Final = ".temp"
WRITE_STEPS: Final = ("write", "sync", "rename", "folder_sync")
CREATE_STEPS: Final = ("write", "sync", "link", "folder_sync")
SETTLE_STEPS: Final = ("sync", "rename", "folder_sync")

Step = Callable[[str], AbstractContextManager[None]]


def _no_step(_name: str) -> AbstractContextManager[None]:
    return nullcontext()


def write_whole(path: Path, content: bytes, *, mode: int | None = PRIVATE, step: Step = _no_step) -> None:
    """In the place of whatever stood there. `mode` None: as for any new file. Raises OSError; then all is as before.

    Only when the folder's own sync fails does the new file stand there already.
    """
    with beside(path, mode) as fresh:
        with step("write"):
            fresh.write_bytes(content)
        settle(fresh, path, step=step)


def create_whole(path: Path, content: bytes, *, lacking: Collection[int], step: Step = _no_step) -> None:
    """As `write_whole`, private, unless a file stands there: that one stays. Raises OSError.

    `lacking`: errors by which a file system says that it has no hard links. There a caller keeps others away.
    """
    with beside(path) as fresh:
        with step("write"):
            fresh.write_bytes(content)
        sync_file(fresh, step)
        try:
            with step("link"):
                os.link(fresh, path)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in lacking:
                raise
            if path.exists():
                return
            fresh.replace(path)
    with step("folder_sync"):
        sync_folder(path.parent)


def settle(file: Path, target: Path, *, step: Step = _no_step) -> None:
    """Make a finished file of the same file system durable under another name. Raises OSError."""
    sync_file(file, step)
    with step("rename"):
        file.replace(target)
    with step("folder_sync"):
        sync_folder(target.parent)


def sync_file(file: Path, step: Step = _no_step) -> None:
    """Make its content durable, whoever wrote it."""
    with file.open("rb") as opened, step("sync"):
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in it durable: of files that were made, renamed or removed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unfinished(path: Path) -> Iterator[Path]:
    """What writers of that file left beside it when they were killed."""
    return path.parent.glob(f".{escape(path.name)}.*{TEMPORARY}")


def mode_of(path: Path) -> int:
    """Permissions of the file that is there; of one that is not, those of a private one."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else PRIVATE


@contextmanager
def beside(path: Path, mode: int | None = PRIVATE) -> Iterator[Path]:
    """An empty file for what is going to stand there; gone afterwards unless it was moved. Signals change nothing."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else PRIVATE)
    try:
        try:
            if mode is not None and mode != PRIVATE:
                os.fchmod(handle, mode)
        finally:
            os.close(handle)
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
