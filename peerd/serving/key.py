"""The key that clients of `peerd serve` show: made once for a home, kept in a file that the user alone can read."""

from __future__ import annotations

import errno
import re
import secrets
import stat
from pathlib import Path
from typing import NamedTuple

from p2pfinetune.system.durable import create_whole
from peerd.errors import StoreError

KEY_BYTES = 32
KEY = re.compile(r"peerd-[A-Za-z0-9_-]{43}")
MAX_FILE = 256  # bytes of it that are read
LACKING = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)  # of file systems without hard links


class Key(NamedTuple):
    text: str
    is_new: bool


def load_or_create(path: Path) -> Key:
    """Raises StoreError for a file that others can read or that holds no key: it is never replaced unasked."""
    try:
        is_new = not path.exists()
        if is_new:
            create_whole(path, f"peerd-{secrets.token_urlsafe(KEY_BYTES)}\n".encode(), lacking=LACKING)
        if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            said = f"the key {path} can be read by others (mode {mode:04o})"
            raise StoreError(said, f"make another: rm {path}   and: peerd serve")
        with path.open("rb") as file:
            found = file.read(MAX_FILE).decode("ascii", "replace").strip()
    except OSError as error:
        why = error.strerror or error
        raise StoreError(f"the key {path} cannot be used: {why}", f"look at the rights of {path.parent}") from error
    if not KEY.fullmatch(found):
        raise StoreError(f"{path} does not hold a key", f"make another: rm {path}   and: peerd serve")
    return Key(found, is_new)
