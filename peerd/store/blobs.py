"""Content-addressed bytes as files: `<folder>/<sha256>`. A name never stands for anything but its own content.

Written to a temporary name, synced, renamed, and the folder synced: after a crash a blob is whole or absent. May be
called from any thread. Disk trouble raises StoreError. A name that is no digest never reaches the disk: it is the name
of no blob, so there is nothing to read, to add to or to delete.

    (absent) -- append_partial --> DIGEST.partial -- complete_partial: it hashes ------> DIGEST
        |                              |  it does not: dropped                             |  path: it still hashes
        +-- put, adopt: whole at once -+-------------------------------------------------->+  else --> DIGEST.damaged

The order of these steps is what file systems need (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014):
without the sync before the rename the name may come to stand for an empty file, and without the sync of the folder it
may be gone.

Content is hashed when it comes, be it from a stranger or from the worker, and when it is handed out, unless the file is
still the very one that was hashed in this run: the same inode, size, time of change and time of writing. The last is
set back by a second once the content is known, so that no write, however soon it follows, leaves it as it was. What a
disk spoils by itself under an unchanged file is found at the next start. A piece that is served to others is not
hashed: who fetches a blob hashes the whole anyway. Readers take no lock, since a blob never changes.
"""

# What each method promises stands in `peerd.store.port`; here, only what is particular to this back end.

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from p2pfinetune.names import Digest
from p2pfinetune.system.durable import beside, settle
from peerd.errors import LostError, StoreError
from peerd.machine.faults import around, within
from peerd.store.limits import MAX_DAMAGED, MAX_PARTIAL_BYTES, MAX_PARTIALS

NAME = re.compile(r"[0-9a-f]{64}")
OURS = re.compile(r"([0-9a-f]{64})(\.partial|\.damaged)?|.+\.temp")
SET_BACK_NS = 1_000_000_000  # of the time of writing; more than any file system or clock rounds it
SHOWN = 80  # characters of what is no digest


class FileBlobs:
    """The shelf of one home; the folder is made if it is missing."""

    def __init__(self, folder: Path, guard: Callable[[], None] = lambda: None) -> None:
        """`guard` is asked before each change, and raises if none may be made."""
        self._folder, self._guard = folder, guard
        self._lock = threading.RLock()  # writers only; readers need none, since a blob never changes
        self._hashed: dict[Digest, tuple[int, ...]] = {}
        """By digest, what the file was like when its content was known; of none that is not in the folder."""
        with disk_trouble(folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def size(self, digest: Digest) -> int | None:
        return _size(self._file(digest)) if is_digest(digest) else None

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        """Empty if the blob is gone: it may be forgotten while somebody still fetches it."""
        if not is_digest(digest):
            return b""
        try:
            with disk_trouble(self._folder, FileNotFoundError), self._file(digest).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            return b""

    def partial_size(self, digest: Digest) -> int:
        return (_size(self._partial(digest)) or 0) if is_digest(digest) else 0

    def append_partial(self, digest: Digest, offset: int, data: bytes) -> bool:
        with self._writing():
            held = self.partial_size(digest)
            if held != offset or not is_digest(digest):
                return False
            self._make_room(self._partial(digest), held + len(data))
            with self._partial(digest).open("ab") as file:
                try:
                    with around("blob.append"):
                        file.write(data)
                        file.flush()
                except OSError:
                    with around("blob.truncate"):
                        os.truncate(self._partial(digest), held)  # a torn write must not shift what comes after it
                    raise
        return True

    def complete_partial(self, digest: Digest) -> bool:
        if not is_digest(digest):
            return False
        with self._writing():
            partial = self._partial(digest)
            if not partial.exists():
                return False
            if _digest_of(partial) != digest:
                with around("blob.drop"):
                    partial.unlink()
                return False
            self._settle(partial, digest)
            return True

    def drop_partial(self, digest: Digest) -> None:
        if is_digest(digest):
            with self._writing(), around("blob.drop"):
                self._partial(digest).unlink(missing_ok=True)

    def put(self, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).hexdigest())
        with self._writing():
            if self._is_whole(digest):
                return digest
            with beside(self._file(digest)) as temporary:
                with around("blob.write"):
                    temporary.write_bytes(data)
                self._settle(temporary, digest)
        return digest

    def adopt(self, path: Path) -> Digest:
        with self._writing():
            try:
                digest = _digest_of(path)
            except FileNotFoundError as error:
                raise LostError(f"{path} vanished before it could be kept") from error
            if not self._is_whole(digest):
                try:
                    self._settle(path, digest)
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    with beside(self._file(digest)) as temporary:  # from another file system
                        with around("blob.copy"):
                            shutil.copyfile(path, temporary)
                        self._settle(temporary, digest)
                        self._hashed.pop(digest, None)  # it is the original that was hashed
            with suppress(OSError), around("blob.let_go"):  # it is in the shelf; what is left goes at the next start
                path.unlink(missing_ok=True)
            return digest

    def path(self, digest: Digest) -> Path:
        """Checked before it is handed out: a damaged blob is set aside and StoreError raised, as for an absent one."""
        if not is_digest(digest):
            raise LostError(f"{digest[:SHOWN]!r} is no SHA-256 digest, so no blob has that name")
        file = self._file(digest)
        with self._writing():
            if not file.exists():
                raise LostError(f"the blob {digest} is not in {self._folder}")
            if not self._is_known(digest) and not self._reads_as(file, digest):
                aside = file.with_suffix(".damaged")
                with around("blob.aside"):
                    file.replace(aside)
                self._hashed.pop(digest, None)
                raise LostError(f"the blob {digest} in {self._folder} was damaged on disk; it is kept as {aside.name}")
        return file

    def sweep(self, keep: Iterable[Digest], *, resumable_seconds: float = 0.0) -> int:
        wanted, freed = set(keep), 0
        with self._writing():
            damaged = sorted(self._folder.glob("*.damaged"), key=lambda path: path.stat().st_mtime_ns)
            aside = set(damaged[-MAX_DAMAGED:])
            for entry in sorted(self._folder.iterdir()):
                ours = OURS.fullmatch(entry.name)
                if not ours or not entry.is_file() or entry in aside or (ours[1] in wanted and ours[2] != ".damaged"):
                    continue
                if ours[2] == ".partial" and abs(time.time() - entry.stat().st_mtime) < resumable_seconds:
                    continue  # whoever announced it repeats that, and the transfer goes on
                freed += entry.stat().st_size
                with around("blob.sweep"):
                    entry.unlink()
                self._hashed.pop(Digest(entry.name), None)
        return freed

    def delete(self, digests: Iterable[Digest]) -> None:
        with self._writing():
            for digest in filter(is_digest, digests):
                with around("blob.delete"):
                    self._file(digest).unlink(missing_ok=True)
                self._hashed.pop(digest, None)

    def _file(self, digest: Digest) -> Path:
        """Of what is known to be a digest."""
        if not is_digest(digest):
            raise ValueError(f"{digest[:SHOWN]!r} is no SHA-256 digest")
        return self._folder / digest

    def _partial(self, digest: Digest) -> Path:
        return self._file(digest).with_suffix(".partial")

    def _is_whole(self, digest: Digest) -> bool:
        file = self._file(digest)
        return self._is_known(digest) or (file.exists() and _digest_of(file) == digest)

    def _is_known(self, digest: Digest) -> bool:
        """Whether its file is the very one whose content was hashed in this run."""
        known = self._hashed.get(digest)
        return known is not None and known == _signs(self._file(digest))

    def _reads_as(self, file: Path, digest: Digest) -> bool:
        if not _reads_as(file, digest):
            return False
        self._know(digest)
        return True

    def _know(self, digest: Digest) -> None:
        """The content of its file has just been hashed; if the file cannot be marked, it is hashed again."""
        self._hashed.pop(digest, None)
        with suppress(OSError):
            file = self._file(digest)
            found = file.stat()
            os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns - SET_BACK_NS))
            if (signs := _signs(file)) is not None:
                self._hashed[digest] = signs

    def _settle(self, file: Path, digest: Digest) -> None:
        """Make a finished file durable under its digest."""
        target = self._file(digest)
        try:
            settle(file, target, step=within("blob"))
        except OSError:
            if not file.exists():
                target.replace(file)  # whoever tries again looks for it there
            raise
        self._know(digest)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock, disk_trouble(self._folder):
            self._guard()
            yield

    def _make_room(self, growing: Path, size: int) -> None:
        """For a partial of that size: the others that were written longest ago give way, never this one."""
        others = [(partial.stat(), partial) for partial in self._folder.glob("*.partial") if partial != growing]
        others.sort(key=lambda other: other[0].st_mtime_ns)
        total = size + sum(stat.st_size for stat, _ in others)
        for number, (stat, oldest) in enumerate(others):
            if len(others) - number < MAX_PARTIALS and total <= MAX_PARTIAL_BYTES:
                return
            with around("blob.drop"):
                oldest.unlink()
            total -= stat.st_size


def is_digest(name: str) -> bool:
    """Whether a blob can have that name. Whatever is asked for by somebody else has to pass here first."""
    return NAME.fullmatch(name) is not None


def _size(file: Path) -> int | None:
    try:
        with disk_trouble(file.parent, FileNotFoundError):
            return file.stat().st_size
    except FileNotFoundError:
        return None


def _signs(file: Path) -> tuple[int, ...] | None:
    """What changes if a file does, from outside too; None if it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest_of(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def _reads_as(path: Path, digest: Digest) -> bool:
    """A bad sector is damage like any other; other trouble is raised, since it may pass."""
    try:
        return _digest_of(path) == digest
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False


@contextmanager
def disk_trouble(folder: Path, *expected: type[OSError]) -> Iterator[None]:
    """Disk trouble in words for people; what is `expected` passes as it is."""
    try:
        yield
    except expected:
        raise
    except OSError as error:
        raise StoreError(f"cannot keep blobs in {folder}: {error}", remedy(error.errno, folder)) from error


def remedy(number: int | None, folder: Path) -> str:
    """What to do about a refusal of the disk."""
    match number:
        case errno.ENOSPC | errno.EDQUOT:
            return "free some disk space"
        case errno.EMFILE | errno.ENFILE:
            return "too many files are open: raise the limit (ulimit -n)"
        case errno.EIO:
            return "the disk may be failing: look at the system's log"
        case _:
            return f"look at the rights of {folder}"
