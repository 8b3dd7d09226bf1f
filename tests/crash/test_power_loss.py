"""A power cut loses what was not synced, which no kill can show: what was done to the files is looked at without it.

As ALICE and CrashMonkey do, with the weakest promises that a file system makes: the content of a file is certain since its
last fsync, a name (made, renamed, removed) since the last fsync of its folder. Whatever came later may have reached the disk
or not, each by itself and in any order. SQLite is trusted with `synchronous=FULL`, which test_store_sqlite.py checks.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfinetune.names import Digest
from peerd.config import Config
from peerd.config_file import read_config, write_config
from peerd.errors import StoreError
from peerd.machine import faults
from peerd.store.blobs import FileBlobs
from peerd.wire.keys import PeerKey

CASES = 16  # of what may be lost at one point
NOTHING = b""


class Disk:
    """Watches some folders, and knows what of the first of them would certainly be there after a power cut."""

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._dice = random.Random(0)
        self._names: dict[str, int] = {}
        self._contents: dict[int, bytes] = {}
        self._last_seen: dict[int, bytes] = {}
        self.cuts = 0

    def fsync(self, handle: int) -> None:
        """Instead of `os.fsync`."""
        found = os.fstat(handle)
        if not stat.S_ISDIR(found.st_mode):
            self._contents[found.st_ino] = self._look()[found.st_ino]
        elif os.path.samestat(found, self.folders[0].stat()):
            self._look()
            self._names = self._listing(self.folders[0])

    def cut(self, into: Path) -> None:
        """One of the states that the first folder may be in after a power cut at this moment."""
        self.cuts += 1
        self._look()
        into.mkdir()
        now = self._listing(self.folders[0])
        for name in sorted(now.keys() | self._names.keys()):
            inode = self._dice.choice([now.get(name), self._names.get(name)])
            if inode is not None:
                content = self._last_seen[inode]
                unsynced = [content, content[: len(content) // 2], bytes(len(content)), NOTHING]
                certain = self._contents.get(inode, NOTHING)
                (into / name).write_bytes(certain if certain == content else self._dice.choice([certain, *unsynced]))
                (into / name).chmod(0o600)

    def _look(self) -> dict[int, bytes]:
        found = {
            file.stat().st_ino: file.read_bytes()
            for folder in self.folders
            for file in folder.iterdir()
            if file.is_file()
        }
        self._last_seen.update(found)
        return found

    @staticmethod
    def _listing(folder: Path) -> dict[str, int]:
        return {file.name: file.stat().st_ino for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Disk]:
    """Makes a disk that is cut at every fault point from now on; `check` looks at what is left."""

    def watch(check: Callable[[Path], None], *folders: Path) -> Disk:
        disk = Disk(*folders)

        def cut_here(_: str = "") -> None:
            if os.fsync != disk.fsync:
                return  # by the check itself
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", lambda handle: None)
                check_cuts()

        def check_cuts() -> None:
            for _ in range(CASES):
                left = tmp_path / f"left-{disk.cuts}"
                disk.cut(left)
                check(left)
                shutil.rmtree(left)

        monkeypatch.setattr(os, "fsync", disk.fsync)
        monkeypatch.setattr(faults, "reached", cut_here)
        return disk

    return watch


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("way", ["adopt", "put"])
def test_the_checkpoint_is_whole_wherever_the_power_goes(
    tmp_path: Path, watched: Callable[..., Disk], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, scratch = tmp_path / "blobs", tmp_path / "scratch"
    blobs, recorded = FileBlobs(shelf), []
    scratch.mkdir()

    def check(left: Path) -> None:
        again = FileBlobs(left)
        for digest in recorded:
            assert digest_of(again.path(digest).read_bytes()) == digest
        again.sweep(recorded)
        assert {file.name for file in left.iterdir()} == set(recorded)

    disk = watched(check, shelf, scratch)
    for number in range(4):
        content = f"checkpoint {number} ".encode() * 20
        if way == "put":
            digest = blobs.put(content)
        else:
            (scratch / str(number)).write_bytes(content)
            digest = blobs.adopt(scratch / str(number))
        before, recorded[:] = list(recorded), [digest]  # the transaction, which is SQLite's business
        faults.reached("")
        blobs.delete(before)

    assert disk.cuts > 500


def test_no_other_name_ever_stands_for_what_it_is_not(tmp_path: Path, watched: Callable[..., Disk]) -> None:
    shelf, contents = tmp_path / "blobs", [f"blob {number} ".encode() * 20 for number in range(3)]
    blobs, refused = FileBlobs(shelf), []

    def check(left: Path) -> None:
        again = FileBlobs(left)
        for digest in map(digest_of, contents):
            try:
                assert digest_of(again.path(digest).read_bytes()) == digest
            except StoreError:
                refused.append(digest)

    watched(check, shelf)
    for content in contents:
        digest = digest_of(content)
        blobs.append_partial(digest, 0, content[:50])
        blobs.append_partial(digest, 50, content[50:])
        assert blobs.complete_partial(digest)

    assert refused  # some were not there yet


def test_the_settings_are_the_old_or_the_new_ones(tmp_path: Path, watched: Callable[..., Disk]) -> None:
    home, written = tmp_path / "home", [""]
    home.mkdir()

    def check(left: Path) -> None:
        assert read_config(left / "config.toml").name in {written[-1], f"peer {len(written)}"}

    watched(check, home)
    for number in range(1, 4):
        write_config(home / "config.toml", Config(name=f"peer {number}"))
        written.append(f"peer {number}")


def test_the_identity_is_whole_or_absent_and_stays_once_it_was_used(
    tmp_path: Path, watched: Callable[..., Disk]
) -> None:
    home, used = tmp_path / "home", []
    home.mkdir()

    def check(left: Path) -> None:
        if used or (left / "identity.key").exists():
            found = PeerKey.load_or_create(left / "identity.key")  # raises where it is damaged
            assert not used or found.peer_id == used[0]

    watched(check, home)
    used.append(PeerKey.load_or_create(home / "identity.key").peer_id)
    faults.reached("")
