"""What only blobs on disk have to survive: full disks, torn writes, damage, names that are no digests."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path
from typing import Any, Self

import pytest

from p2pfinetune.names import Digest
from peerd.errors import StoreError
from peerd.machine import faults
from peerd.store.blobs import FileBlobs

HELLO = Digest(hashlib.sha256(b"hello").hexdigest())


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def files(tmp_path: Path) -> list[str]:
    return sorted(entry.name for entry in (tmp_path / "blobs").iterdir())


def full_disk(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_no_half_a_blob(blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = blobs.put(b"kept")
    monkeypatch.setattr(os, "fsync", full_disk)

    with pytest.raises(StoreError, match="No space left") as trouble:
        blobs.put(b"hello")

    assert "free some disk space" in trouble.value.hint
    assert files(tmp_path) == [kept]


def test_a_full_disk_leaves_a_finished_file_where_it_was(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "checkpoint"
    source.write_bytes(b"hello")
    monkeypatch.setattr(os, "fsync", full_disk)

    with pytest.raises(StoreError):
        blobs.adopt(source)

    assert source.read_bytes() == b"hello"
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_synced_leaves_the_file_for_the_next_attempt(blobs: FileBlobs, tmp_path: Path) -> None:
    source = tmp_path / "checkpoint"
    source.write_bytes(b"hello")
    faults.arm({faults.VARIABLE: "blob.folder_sync.before=eio"})

    with pytest.raises(StoreError):
        blobs.adopt(source)

    assert source.read_bytes() == b"hello"
    assert blobs.adopt(source) == HELLO
    assert files(tmp_path) == [HELLO]
    faults.arm({})


def test_a_failed_copy_from_another_file_system_leaves_nothing(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "checkpoint"
    source.write_bytes(b"hello")
    faults.arm({faults.VARIABLE: "blob.copy.after=enospc"})
    really_replace = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return really_replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)

    with pytest.raises(StoreError):
        blobs.adopt(source)

    assert files(tmp_path) == []
    faults.arm({})


def test_a_torn_write_does_not_shift_what_comes_after_it(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs.append_partial(HELLO, 0, b"he")
    really_open = Path.open

    def torn(path: Path, mode: str = "r") -> Any:
        file = really_open(path, mode)

        class Torn:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                file.write(data[:1])
                file.flush()
                full_disk()

        return Torn()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", torn)
        with pytest.raises(StoreError):
            blobs.append_partial(HELLO, 2, b"llo")

    assert blobs.partial_size(HELLO) == 2
    blobs.append_partial(HELLO, 2, b"llo")
    assert blobs.complete_partial(HELLO)


def test_a_damaged_blob_is_noticed_when_it_is_to_be_used(blobs: FileBlobs, tmp_path: Path) -> None:
    digest = blobs.put(b"hello")
    (tmp_path / "blobs" / digest).write_bytes(b"jello")

    with pytest.raises(StoreError, match="damaged"):
        blobs.path(digest)

    assert blobs.size(digest) is None
    assert files(tmp_path) == [f"{digest}.damaged"]
    assert blobs.put(b"hello") == digest
    assert blobs.path(digest).read_bytes() == b"hello"


def test_putting_a_blob_again_mends_a_damaged_one(blobs: FileBlobs, tmp_path: Path) -> None:
    digest = blobs.put(b"hello")
    (tmp_path / "blobs" / digest).write_bytes(b"jello")

    blobs.put(b"hello")

    assert blobs.path(digest).read_bytes() == b"hello"


def test_a_sweep_leaves_files_alone_that_are_not_ours(blobs: FileBlobs, tmp_path: Path) -> None:
    (tmp_path / "blobs" / "holiday.jpg").write_bytes(b"beach")
    (tmp_path / "blobs" / "abc.temp").write_bytes(b"left by a crash")

    assert blobs.sweep([]) == len(b"left by a crash")
    assert files(tmp_path) == ["holiday.jpg"]


def test_a_file_from_another_file_system_is_copied(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "checkpoint"
    source.write_bytes(b"hello")
    really_replace = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return really_replace(path, target)

    monkeypatch.setattr(Path, "replace", replace)

    assert blobs.adopt(source) == HELLO
    assert blobs.path(HELLO).read_bytes() == b"hello"
    assert not source.exists()
    assert files(tmp_path) == [HELLO]


def test_a_folder_that_cannot_be_made_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError) as trouble:
        FileBlobs(tmp_path / "file" / "blobs")

    assert trouble.value.hint


def test_two_threads_may_put_the_same_blob(blobs: FileBlobs, tmp_path: Path) -> None:
    threads = [threading.Thread(target=blobs.put, args=(b"hello",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert files(tmp_path) == [HELLO]
