"""The last two checkpoints, the sequence numbers reserved and the longest bans, in a small file beside the blobs.

The database says the same and more. This file is what training goes on from when the database or its log is lost, and
what says which blob is the older generation when the newest one is damaged. It is replaced as a whole: old or new.

It lies with the blobs and not with the database, because it is of use only as long as they are there. It is written
after the database: so it may be behind by one step after a crash, and never ahead; whoever opens a home takes the newer
of both (`journal.age`). The number of the database's file is in it, so that a home that was copied can tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.names import PeerId
from p2pfinetune.system.durable import write_whole
from peerd.errors import StoreError
from peerd.machine.faults import around, within
from peerd.store.blobs import disk_trouble
from peerd.store.checksum import sealed, unsealed
from peerd.store.port import Checkpoint, KeptBan

NAME: Final = "generations"
FORMAT: Final = 1
KEPT: Final = 2  # the newest and the one before; each holds an adapter and its optimizer's moments
KEPT_BANS: Final = 64  # of those in the database; the file is written anew at every step of a round
MAX_BYTES: Final = 64 * 1024  # two checkpoints are some hundred bytes, a ban two hundred


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    format: int = FORMAT
    order: tuple[int, int] = (0, 0)
    """The last (epoch, sequence) that an announcement may have been given."""
    checkpoints: tuple[Checkpoint, ...] = ()
    """Newest first."""
    bans: tuple[KeptBan, ...] = ()
    """Those that last longest."""
    database: int = 0
    """The number of the database's file on its file system: another one means that the home was copied."""


class Format(msgspec.Struct):
    """What every version of the file says."""

    format: int


class Generations:
    """The file of one shelf; without a folder it is kept in memory only. Disk trouble raises StoreError."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = folder / NAME if folder is not None else None
        self.notice = ""
        """What was wrong with the file, for people."""
        self.kept = self._read() or Kept()

    def keep_order(self, order: tuple[int, int]) -> None:
        """The last one that may have been given. Durable, as are all of these."""
        self.save(replace(self.kept, order=order))

    def is_copied(self, database: int) -> bool:
        """Whether the database is another file than it was. The new number is kept with whatever is kept next."""
        before = self.kept.database
        self.kept = replace(self.kept, database=database)
        return before not in (0, database)

    def keep_checkpoints(self, checkpoints: tuple[Checkpoint, ...]) -> None:
        """Newest first."""
        self.save(replace(self.kept, checkpoints=checkpoints[:KEPT]))

    def keep_ban(self, ban: KeptBan) -> None:
        """In the place of one of the same peer."""
        bans = [ban, *(kept for kept in self.kept.bans if kept.peer != ban.peer)]
        bans.sort(key=lambda kept: kept.until_unix, reverse=True)
        self.save(replace(self.kept, bans=tuple(bans[:KEPT_BANS])))

    def lift_ban(self, peer: PeerId) -> None:
        """Of that peer, if there is one."""
        bans = tuple(kept for kept in self.kept.bans if kept.peer != peer)
        if bans != self.kept.bans:
            self.save(replace(self.kept, bans=bans))

    def save(self, kept: Kept) -> None:
        if self._file is not None:
            with disk_trouble(self._file.parent):
                write_whole(self._file, sealed(msgspec.json.encode(kept)), step=within("generations"))
        self.kept = kept

    def _read(self) -> Kept | None:
        if self._file is None or not self._file.exists():
            return None
        with disk_trouble(self._file.parent), self._file.open("rb") as file:
            row = file.read(MAX_BYTES)
        body = unsealed(row)
        try:
            found = msgspec.json.decode(body or b"", type=Format).format
            if found > FORMAT:
                raise StoreError(
                    f"{self._file} was written by a newer peerd (format {found}, this one knows {FORMAT})",
                    "upgrade peerd, or use another --home",
                )
            return msgspec.json.decode(body or b"", type=Kept)
        except UNREADABLE:
            aside = self._file.with_suffix(".damaged")
            with disk_trouble(self._file.parent), around("generations.aside"):
                self._file.replace(aside)
            self.notice = (
                f"the record of checkpoints {self._file} was damaged and is kept as {aside}; "
                "the database says the same, and a new record is begun"
            )
            return None
