"""Where everything of one daemon lies on disk. Computing paths creates nothing; `prepare` makes the folders, 0700.

Without a home the XDG folders are used (through platformdirs); one folder holds all with `--home DIR` or PEERD_HOME.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import msgspec
import platformdirs

from p2pfinetune.system.path_names import is_plain, shown
from peerd.errors import UsageError
from peerd.machine.unfit import lacks

HOME_VARIABLE = "PEERD_HOME"
MAX_SOCKET_PATH = 100  # bytes; sun_path holds 108 on Linux and 104 on macOS, the final zero included
PRIVATE = 0o700
NO_HOME = "the home folder of the user is not known: HOME is not set, and the system has no entry for the user"


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """The files and folders of one daemon."""

    home: Path
    config: Path
    identity: Path
    database: Path
    blobs: Path
    scratch: Path
    """On the file system of `blobs`, so that a finished file is moved there and not copied."""
    splits: Path
    """The record of which documents are held out."""
    looks: Path
    """When the test split was looked at."""
    cache: Path
    log: Path
    """Standard error of a daemon started with --detach."""
    lock: Path
    socket: Path
    records: Path
    serve_key: Path
    """What clients of `peerd serve` show."""

    @staticmethod
    def of(home: Path | None = None) -> Paths:
        """The paths of `home`, of PEERD_HOME, or of this user."""
        chosen = home or (Path(given) if (given := os.environ.get(HOME_VARIABLE)) else None)
        return _in_one_folder(absolute(chosen)) if chosen else _of_this_user()

    def spare_socket(self) -> Path:
        """Where the socket is made again when its folder is gone for good, as that of a login after the logout."""
        return _temporary_folder() / _name_of_socket(self.home)

    def named(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in self.__struct_fields__}

    def prepare(self) -> None:
        """Make every folder, for this user alone.

        Raises UsageError if one belongs to somebody else or cannot be written; nothing is made then.
        """
        folders = (self.home, self.config.parent, self.blobs, self.scratch, self.cache, self.log.parent)
        if self.config.parent == self.home and not self.home.parent.is_dir():  # a disk that is not there, or a slip
            raise UsageError(f"there is no folder {self.home.parent} to make the home in", "choose another --home DIR")
        for folder in (*folders, self.socket.parent):
            _require_writable(folder)
        for folder in (*folders, self.socket.parent):
            make_private(folder)


def absolute(given: str | Path) -> Path:
    """What a path means where it is typed: the daemon, which stands elsewhere, and the next start are told that.

    Raises UsageError if it means nothing, or cannot be remembered: the options are kept as UTF-8.
    """
    try:
        found = expanded(given).absolute()
    except FileNotFoundError as error:
        raise UsageError(
            f"{given} lies in the current folder, which was deleted", "give the whole path, or go elsewhere: cd"
        ) from error
    if not is_plain(found):
        raise UsageError(
            f"{shown(found)}: this name holds bytes that are no UTF-8, so it cannot be remembered",
            "name the folder around it, or make a link with a plain name: ln -s",
        )
    return found


def expanded(path: str | Path) -> Path:
    """The path with `~` written out. Raises UsageError when nobody knows which folder that is."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: {NO_HOME}", "write the path out") from error


def _in_one_folder(home: Path) -> Paths:
    plain = home / "peerd.sock"
    return Paths(
        home=home,
        config=home / "config.toml",
        identity=home / "identity.key",
        database=home / "state.db",
        blobs=home / "blobs",
        scratch=home / "scratch",
        splits=home / "splits.record",
        looks=home / "looks.json",
        cache=home / "cache",
        log=home / "peerd.log",
        lock=home / "peerd.lock",
        socket=plain if _fits(plain) else _short_socket(home),
        records=home / "records",
        serve_key=home / "serve.key",
    )


def _of_this_user() -> Paths:
    folders = platformdirs.PlatformDirs("peerd", appauthor=False)
    try:
        home, settings = absolute(folders.user_data_dir), absolute(folders.user_config_dir)
        cache, logs = absolute(folders.user_cache_dir), absolute(folders.user_log_dir)
    except RuntimeError as error:  # no HOME, and the system does not know this user
        raise UsageError(NO_HOME, "name the folder: --home DIR, or set HOME") from error
    plain = _runtime_folder() / "peerd.sock"
    return msgspec.structs.replace(
        _in_one_folder(home),
        config=settings / "config.toml",
        cache=cache,
        log=logs / "peerd.log",
        socket=plain if _fits(plain) else _short_socket(home),
    )


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= MAX_SOCKET_PATH


def _short_socket(home: Path) -> Path:
    """A home that is too long for a socket gets one in a short folder, under a name that only this home has."""
    name = _name_of_socket(home)
    runtime = _runtime_folder() / name
    return runtime if _fits(runtime) else _temporary_folder() / name


def _name_of_socket(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16] + ".sock"


def _runtime_folder() -> Path:
    """Of this login; if the system keeps none, a folder under /tmp that `make_private` checks to be ours."""
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return absolute(given) / "peerd"
    login = Path(f"/run/user/{os.getuid()}")
    return login / "peerd" if login.is_dir() else _temporary_folder()


def _temporary_folder() -> Path:
    return Path(f"/tmp/peerd-{os.getuid()}")  # noqa: S108  # make_private refuses one that is not ours


def _require_writable(folder: Path) -> None:
    """The folder, or the nearest one above it that exists."""
    try:
        nearest = next(above for above in (folder, *folder.parents) if above.exists())
    except OSError as error:
        raise UsageError(
            f"cannot use the folder {folder}: {error.strerror}", "choose another with --home DIR"
        ) from error
    if not nearest.is_dir():
        raise UsageError(f"{nearest} is in the way: it is not a folder", f"move it away: mv {nearest} {nearest}.old")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write in the folder {nearest}", "look at its rights, or choose another: --home DIR")


def make_private(folder: Path) -> None:
    """Make it with mode 0700, or bring one of ours to that. A folder of somebody else, or a link, is refused."""
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        found = folder.stat() if folder.parent != Path("/tmp") else folder.lstat()  # noqa: S108  # no links there
    except OSError as error:
        raise UsageError(
            f"cannot make the folder {folder}: {error.strerror}", "choose another with --home DIR"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise UsageError(f"{folder} is not a folder", "choose another with --home DIR")
    if found.st_uid != os.getuid() or found.st_mode & stat.S_ISVTX:
        raise UsageError(f"{folder} is not a folder of your own", "choose another with --home DIR")
    if stat.S_IMODE(found.st_mode) & 0o077 and sys.platform != "win32":
        try:
            folder.chmod(PRIVATE)
        except OSError as error:
            raise lacks(folder, "rights for you alone", error) or UsageError(
                f"cannot make the folder {folder} yours alone: {error.strerror}", "choose another with --home DIR"
            ) from error
