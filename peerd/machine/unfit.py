"""File systems that lack what a home needs: locks, sockets. Network mounts, shares and some sticks do.

Such a refusal comes back at every try and is nobody's fault but the folder's, so it is told by name, with the way out.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from peerd.errors import UsageError

LACKING: Final = frozenset(
    {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EBADF}
)
"""How kernels say that a file system cannot do something; another trouble has another number."""
SQLITE_LACKING: Final = ("SQLITE_IOERR_SHM", "SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK", "SQLITE_NOLFS")
LOCAL_DISK: Final = "keep the home on a disk of this machine: --home DIR   (the text may stay where it is)"


def lacks(folder: Path, what: str, error: Exception) -> UsageError | None:
    """The error to tell, where the file system of the folder does not have what was asked of it; else None.

    `error` is of the system or of SQLite, which puts its log's index into memory shared through a file.
    """
    if isinstance(error, OSError):
        lacking = error.errno in LACKING
    else:
        lacking = getattr(error, "sqlite_errorname", "").startswith(SQLITE_LACKING)
    return UsageError(f"the file system of {folder} has no {what} ({_said(error)})", LOCAL_DISK) if lacking else None


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
