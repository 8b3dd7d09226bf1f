"""What is packed into one file: its members one by one, in bounded memory, and never on a disk.

A few kilobytes can unpack to petabytes (a zip bomb: Fifield, "A better zip bomb", WOOT 2019), so what a member says of
its size is not believed: it is unpacked piece by piece, and counted. Bounded are a member, all of them together with
what is packed inside them, their number, and how many times larger than the file all may be: a text is packed to a
tenth, hardly ever to a hundredth.
Names in an archive are names for people alone. Encrypted members are left out.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import IO, Protocol

from p2pfinetune.data.formats.parts import FormatError, PackedFile

MAX_MEMBER_BYTES = 64 << 20
MAX_UNPACKED_BYTES = 256 << 20  # of one file, as large as a file that is not packed may be
MAX_MEMBERS = 20_000
MAX_RATIO = 200  # of all that is unpacked to the file
FREE_BYTES = 1 << 20  # unpacked whatever the ratio: a short text that repeats itself
PIECE = 1 << 20
ENTRY = b"PK\x01\x02"  # begins each entry of a zip's directory
IS_ENCRYPTED = 0x1
TOO_LARGE, TOO_MANY = "unpacks to too much", "too many files in an archive"
SINGLE = {".gz": "gzip", ".zst": "Zstandard", ".bz2": "bzip2", ".xz": "xz"}
TARS = (".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz")


class Stream(Protocol):
    """What gives bytes piece by piece."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class Budget:
    """How much may still be unpacked of one file."""

    left_bytes: int

    @classmethod
    def of(cls, size_bytes: int) -> Budget:
        """For a file of that size."""
        return cls(min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * size_bytes))

    def read(self, stream: Stream, most_bytes: int = MAX_MEMBER_BYTES) -> bytes:
        """All of a stream. Raises FormatError if that is more than is left, or than `most_bytes`."""
        pieces, most = [], min(most_bytes, self.left_bytes)
        size = 0
        while piece := stream.read(min(PIECE, most + 1 - size)):
            size += len(piece)
            if size > most:
                self.left_bytes -= size
                raise FormatError(TOO_LARGE)
            pieces.append(piece)
        self.left_bytes -= size
        return b"".join(pieces)


def zip_file(data: bytes) -> zipfile.ZipFile:
    """The directory of a zip. Raises FormatError if it has too many entries, and what zipfile raises."""
    if data.count(ENTRY) > MAX_MEMBERS:
        raise FormatError(TOO_MANY)
    return zipfile.ZipFile(io.BytesIO(data))


def member_of(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    """One member by name. Raises FormatError if it is not there or too large."""
    try:
        with archive.open(name) as stream:
            return budget.read(stream)
    except KeyError as error:
        raise FormatError("parts of it are missing") from error


def unzipped(data: bytes, _: str, budget: Budget) -> Iterator[PackedFile]:
    """The files in a zip, in its order."""
    with zip_file(data) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            if entry.flag_bits & IS_ENCRYPTED:
                yield PackedFile(entry.filename, b"", "encrypted", entry.file_size)
                continue
            with archive.open(entry) as stream:
                yield _member(entry.filename, stream, budget)


def untarred(data: bytes, name: str, budget: Budget) -> Iterator[PackedFile]:
    """The regular files in a tar, whatever it is packed by."""
    packed = _unpacking(data, name)
    with tarfile.open(fileobj=_CountedStream(packed, budget), mode="r|") as archive:  # type: ignore[call-overload]
        for number, entry in enumerate(archive):
            if number >= MAX_MEMBERS:
                raise FormatError(TOO_MANY)
            if entry.isreg() and (stream := archive.extractfile(entry)) is not None:
                yield _member(entry.name, stream, Budget(budget.left_bytes))


def unpacked(data: bytes, name: str, budget: Budget) -> Iterator[PackedFile]:
    """The one file that was packed, under its name without the suffix."""
    inner = PurePath(name).stem if PurePath(name).suffix.lower() in SINGLE else name
    yield PackedFile(inner, budget.read(_unpacking(data, name), MAX_UNPACKED_BYTES))


def _member(name: str, stream: IO[bytes], budget: Budget) -> PackedFile:
    """One file, or that it is too large; the budget stops the archive if all together are."""
    try:
        return PackedFile(name, budget.read(stream))
    except FormatError as error:
        if budget.left_bytes <= 0:
            raise
        return PackedFile(name, b"", str(error), MAX_MEMBER_BYTES)


def _unpacking(data: bytes, name: str) -> Stream:
    suffix = PurePath(name).suffix.lower()
    raw = io.BytesIO(data)
    if suffix in {".gz", ".tgz"}:
        return gzip.GzipFile(fileobj=raw)
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdDecompressor(max_window_size=MAX_MEMBER_BYTES).stream_reader(raw, read_across_frames=True)
    return raw


@dataclass(slots=True)
class _CountedStream:
    """A stream that counts what is unpacked from it, headers and holes included."""

    stream: Stream
    budget: Budget

    def read(self, size: int, /) -> bytes:
        piece = self.stream.read(size)
        self.budget.left_bytes -= len(piece)
        if self.budget.left_bytes < 0:
            raise FormatError(TOO_LARGE)
        return piece


def is_hidden(name: str, skipped: Container[str]) -> bool:
    """Whether a member is what would be left out of a folder: hidden, or in a folder of other people's files."""
    parts = [part for part in PurePosixPath(name).parts if part != ".."]
    return any(part.startswith(".") or part == "__MACOSX" or part in skipped for part in parts)
