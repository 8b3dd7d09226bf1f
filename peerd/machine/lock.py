"""One daemon a home: a file that its process keeps locked, and that says who it is. Taken by `daemon.assembly.run`.

The lock is the kernel's (flock(2)), so that a killed daemon leaves none behind; the text is only for people and
clients. A file with a process id, which is the usual way, has to guess whether that process still lives and is the
same; here only what is said to people depends on the id. flock and not fcntl's locks, which any other descriptor of the
same process gives up when it is closed.

    nobody --- hold: locked, text written ---> held --- the body ends ---> text emptied, or why it failed --> nobody
                                                |
                                                +--- killed --> the lock is gone, the text stays: `died` reads it

The file is never removed: removing it would let two daemons each lock a file of that name. If somebody else removes
it, with the home perhaps, that is what happens: the lock is on the old file, while all else is written by its path. So
its holder asks `HeldLock.require` before each durable step whether the file at the path is the one that is locked.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from msgspec.structs import replace

from p2pfinetune.errors import UNREADABLE
from peerd.errors import AlreadyRunning, HomeGone, PeerdError, StoreError, UsageError
from peerd.machine.faults import around
from peerd.machine.unfit import lacks

PATIENCE_SECONDS = 0.5  # `holder` borrows the lock for an instant when it looks; a start must not trip over that
OTHER_HOME = "look at its rights, or choose another: --home DIR"
ANEW = "its options and identity went with it; begin anew: peerd start --data FOLDER"
WITH_THAT = "go on with what lies there now: peerd start"
MAX_TEXT = 4096  # bytes; the holder is a few short fields
MAX_WORDS = 400  # characters of why it ended


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lock."""

    pid: int
    version: str
    started_unix: float
    socket: str
    ended: str = ""
    """Why it ended, in words, if that was not in order and it could still say so."""
    before: str = ""
    """How the holder before it ended, in words; empty if that was in order."""


class HeldLock:
    """The lock, while it is held."""

    def __init__(self, path: Path, file: IO[bytes], me: Holder) -> None:
        self._path, self._file, self._me = path, file, me

    @property
    def before(self) -> str:
        """How the holder before ended, in words; empty if that was in order."""
        return self._me.before

    def is_ours(self) -> bool:
        """Whether the file at the path is the one that is locked; what cannot be looked at is taken for it."""
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True

    def require(self) -> None:
        """Before anything is written for good. Raises HomeGone, with what became of the home."""
        if self.is_ours():
            return
        home, now = self._path.parent, self._now_at()
        if now is None:
            what, hint = ("replaced", WITH_THAT) if self._path.exists() else ("deleted", ANEW)
            raise HomeGone(f"the home {home} was {what} while the daemon ran; nothing more is written there", hint)
        raise HomeGone(f"the home {home} was moved to {now} while the daemon ran", f"peerd start --home {now}")

    def listens_at(self, socket: Path) -> None:
        """Tell clients that the control socket is somewhere else now."""
        self._me = msgspec.structs.replace(self._me, socket=str(socket))
        _write(self._file, msgspec.json.encode(self._me))

    def _now_at(self) -> Path | None:
        """The folder in which the locked file lies now; None if it is deleted, or this system does not tell."""
        try:
            found = Path(f"/proc/self/fd/{self._file.fileno()}").readlink()
            return found.parent if os.path.samestat(found.stat(), os.fstat(self._file.fileno())) else None
        except OSError:
            return None


@contextmanager
def hold(path: Path, *, version: str, socket: Path) -> Iterator[HeldLock]:
    """Keep the lock while the body runs. Raises AlreadyRunning, with who and since when."""
    with _open(path) as file:
        with around("start.lock"):
            if not _taken(file, path):
                raise already_running(_text(file))
            me = Holder(
                pid=os.getpid(),
                version=version,
                started_unix=time.time(),
                socket=str(socket),
                before=_end_of(_text(file)),
            )
            _write(file, msgspec.json.encode(me))
        try:
            yield HeldLock(path, file, me)
        finally:
            error = sys.exc_info()[1]
            last_words = replace(me, ended=_words(error), before="") if isinstance(error, Exception) else None
            _write(file, msgspec.json.encode(last_words) if last_words else b"")


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None if nobody does. Creates nothing."""
    try:
        with path.open("rb") as file:
            return None if _lock(file, 0.0, fcntl.LOCK_SH) else _text(file) or _UNKNOWN
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise UsageError(f"{path.parent} is not a folder", "choose another: --home DIR") from error
    except PermissionError as error:
        raise UsageError(f"cannot look at the lock {path}: {error.strerror}", OTHER_HOME) from error
    except OSError as error:
        if (unfit := lacks(path.parent, "locks", error)) is not None:
            raise unfit from error
        raise StoreError(
            f"cannot look at the lock {path}: {error.strerror}", f"move it away: mv {path} {path}.old"
        ) from error


def ask_to_end(path: Path) -> None:
    """SIGTERM to the process that holds the lock, if there is no other way to ask it.

    Raises PeerdError if it cannot be made sure that the process named in the lock is the one that holds it.
    """
    found = holder(path)
    if found is None:
        return
    try:
        handle = os.pidfd_open(found.pid) if sys.platform == "linux" and found.pid else None  # or its number is reused
    except OSError:
        handle = None
    try:
        if not found.pid or not _holds(found.pid, path):
            raise PeerdError(
                f"{path} is locked by a process that cannot be found from here",
                "does it run in a container, on another machine, or as another user? end it there",
            )
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        else:
            os.kill(found.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it has just ended
    finally:
        if handle is not None:
            os.close(handle)


def _holds(pid: int, path: Path) -> bool:
    """Whether that process has the file open, as only its holder has for longer than an instant."""
    if sys.platform != "linux":
        return True  # the text is written by who holds it, and emptied when it is given back
    try:
        lock = path.stat()
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if os.path.samestat(handle.stat(), lock):
                    return True
    except OSError:
        return False
    return False


def died(path: Path) -> str:
    """If nobody holds the lock: who held it last and did not give it back, in words; "" where it was given back."""
    try:
        with path.open("rb") as file:
            found = _text(file)
    except OSError:
        return ""
    return _end_of(found)


def _end_of(found: Holder | None) -> str:
    if found is None:
        return ""
    how = f"ended: {found.ended}" if found.ended else "was killed or crashed"
    return f"process {found.pid}, started {_since(found)}, {how}"


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = str(error) if isinstance(error, PeerdError) else f"{type(error).__name__}: {error}"
    return "".join(c if c.isprintable() else " " for c in said)[:MAX_WORDS]


def already_running(found: Holder | None) -> AlreadyRunning:
    """The error that tells a person about the daemon that is there."""
    hint = "see it with: peerd status   end it with: peerd stop"
    if found is None or found is _UNKNOWN:
        return AlreadyRunning("a daemon is starting or stopping here right now", hint)
    return AlreadyRunning(f"peerd {found.version} runs here already: process {found.pid}, since {_since(found)}", hint)


_UNKNOWN = Holder(pid=0, version="", started_unix=0.0, socket="")


def _since(found: Holder) -> str:
    return dt.datetime.fromtimestamp(found.started_unix).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _open(path: Path) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b", buffering=0)
    except PermissionError as error:
        raise UsageError(f"cannot open the lock {path}: {error.strerror}", OTHER_HOME) from error
    except OSError as error:
        raise StoreError(f"cannot open the lock {path}: {error.strerror}") from error


def _taken(file: IO[bytes], path: Path) -> bool:
    try:
        return _lock(file, PATIENCE_SECONDS)
    except OSError as error:
        if (unfit := lacks(path.parent, "locks", error)) is not None:
            raise unfit from error
        raise StoreError(f"cannot lock {path}: {error.strerror}", OTHER_HOME) from error


def _lock(file: IO[bytes], patience_seconds: float, kind: int = fcntl.LOCK_EX) -> bool:
    """A shared one is enough to see whether anybody has it; over a network, that needs no right to write."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _text(file: IO[bytes]) -> Holder | None:
    file.seek(0)
    try:
        return msgspec.json.decode(file.read(MAX_TEXT), type=Holder)
    except UNREADABLE:
        return None  # a daemon that is just starting has not written it yet


def _write(file: IO[bytes], text: bytes) -> None:
    """The text is for people: a full disk costs them who holds the lock, not the lock."""
    with contextlib.suppress(OSError):
        file.seek(0)
        file.truncate()
        file.write(text)
