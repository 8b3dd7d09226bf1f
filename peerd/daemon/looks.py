"""When the own test split was looked at, and what was seen the first time: one small file in the home.

Text that nothing was chosen by can be asked once. Whoever looks, changes an option, and looks again, chooses by it, and
the second figure flatters. Nobody can be kept from that on their own machine, but it can be known: each look is written
down before its figures are told, the figures of the first are kept, and they are what is shown until somebody asks to
measure anew.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from msgspec.structs import replace

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.system.durable import write_whole
from peerd.control.answers import Evaluated, Look
from peerd.errors import StoreError

MOST = 1000  # looks that are kept: the first ones

_log = logging.getLogger("peerd.looks")


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds."""

    first: Evaluated | None = None
    """What was seen when somebody looked first; None if only a report has opened the split so far."""
    looks: tuple[Look, ...] = ()

    def after(self, look: Look, seen: Evaluated | None = None) -> Looks:
        """With one look more."""
        return replace(self, looks=(*self.looks, look)[:MOST], first=self.first if self.first is not None else seen)


def read(path: Path) -> Looks:
    """Empty if there is none; a file that cannot be read is told in the log and counts as none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Looks)
    except FileNotFoundError:
        return Looks()
    except (OSError, *UNREADABLE) as error:
        _log.warning("%s cannot be read, so earlier looks at the test split are not known: %s", path, error)
        return Looks()


def write(path: Path, looks: Looks) -> None:
    """Durably. Raises StoreError."""
    try:
        write_whole(path, msgspec.json.encode(looks))
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}), so the test split stays shut: a look that "
            "nobody knows of is worth nothing",
            f"make room or look at the rights of {path.parent}",
        ) from error
