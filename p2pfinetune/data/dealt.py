"""The record of every document that was ever dealt: which split it went to, and a sketch of what it says.

It is state and no cache: what was trained on must never be measured on, nor the other way round, though the text has
been edited, deleted or put back since. So a document stays in the record when its text is gone, with the sketch by
which a near copy of it is known.

One file, written anew beside itself, synced and renamed; a checksum covers all of it. Nothing is repaired here: a
file that is damaged, of another owner or of a newer version is told apart and left as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.near_duplicates import Sequences
from p2pfinetune.data.report import Copies
from p2pfinetune.data.splits import SPLITS, Split
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest
from p2pfinetune.system.durable import write_whole

FORMAT = 1
MAGIC = b"splits of documents\n"
SKETCH = 32  # sequences: whether a third of a text stands in another is seen to within a tenth, for 128 bytes of each
LEFT_OUT = len(SPLITS)  # the code of a document that is in no split
DIGEST_BYTES = 32
TAIL_BYTES = 6  # of each document: its code, whether it has near copies, its count of sequences


@dataclass(frozen=True, slots=True)
class Dealt:
    """What became of one document."""

    split: Split | None
    """None: it is in no split, since near copies of it stand in several."""
    is_near: bool
    """It was near copies, or a reply, of others when it was dealt."""
    count: int
    """Of its sequences."""
    sketch: NDArray[np.uint32]
    """The smallest of them, SKETCH at most: as good as drawn at random, and of equal texts the same."""


def sketched(sequences: Sequences) -> NDArray[np.uint32]:
    """The sketch of a text by its sequences, which are sorted."""
    return (sequences[:SKETCH] >> np.uint64(32)).astype(np.uint32)


class NoRecordError(Exception):
    """There is no record that can be read; says why. `is_gone`: there is none at all."""

    def __init__(self, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.is_gone = is_gone


def copies_of(rows: Iterable[Dealt]) -> Copies:
    """How many of them are near copies that stand together, and how many are left out."""
    every = list(rows)
    return Copies(sum(row.is_near and row.split is not None for row in every), sum(row.split is None for row in every))


def write(path: Path, owner: str, rows: Mapping[Digest, Dealt]) -> None:
    """Durably, all of it or nothing. Raises TextError if the disk refuses."""
    body = _packed(rows)
    head = {"format": FORMAT, "owner": owner, "documents": len(rows)}
    line = json.dumps({**head, "sha256": _checksum(head, body)}).encode() + b"\n"
    try:
        write_whole(path, MAGIC + line + body)
    except OSError as error:
        raise TextError(
            f"{path}, the record of which documents are held out, cannot be written: {error.strerror or error}",
            f"make room or look at the rights of {path.parent}",
        ) from error


def read(path: Path, owner: str) -> dict[Digest, Dealt]:
    """What was written. Raises NoRecordError, or TextError if a newer version wrote it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NoRecordError("it is gone", is_gone=True) from error
    except OSError as error:
        raise NoRecordError(f"it cannot be read: {error.strerror or error}") from error
    line, _, body = data.removeprefix(MAGIC).partition(b"\n")
    try:
        head = json.loads(line)
        checksum = head.pop("sha256")
        if data.startswith(MAGIC) and head["format"] > FORMAT:  # asked first: a newer one may have another checksum
            raise TextError(f"{path} was written by a newer version of this program", "install that version again")
        if not data.startswith(MAGIC) or head["format"] != FORMAT or checksum != _checksum(head, body):
            raise NoRecordError("it is damaged: its checksum is another")
        if head["owner"] != owner:
            raise NoRecordError("it is another peer's")
        return _unpacked(body, head["documents"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise NoRecordError("it is damaged") from error


def _packed(rows: Mapping[Digest, Dealt]) -> bytes:
    parts = [b"".join(bytes.fromhex(document) for document in rows)]
    codes = [LEFT_OUT if row.split is None else SPLITS.index(row.split) for row in rows.values()]
    parts.append(bytes(codes))
    parts.append(bytes(row.is_near for row in rows.values()))
    parts.append(np.array([row.count for row in rows.values()], "<u4").tobytes())
    parts.append(bytes(len(row.sketch) for row in rows.values()))
    parts += [row.sketch.astype("<u4").tobytes() for row in rows.values()]
    return b"".join(parts)


def _unpacked(body: bytes, count: int) -> dict[Digest, Dealt]:
    ids, rest = body[: DIGEST_BYTES * count], body[DIGEST_BYTES * count :]
    codes, near = rest[:count], rest[count : 2 * count]
    counts = np.frombuffer(rest, "<u4", count, 2 * count)
    ends = np.cumsum([0, *rest[TAIL_BYTES * count : (TAIL_BYTES + 1) * count]])
    sketches = np.frombuffer(rest, "<u4", int(ends[-1]), (TAIL_BYTES + 1) * count)
    splits = (*SPLITS, None)
    return {
        Digest(ids[DIGEST_BYTES * i : DIGEST_BYTES * (i + 1)].hex()): Dealt(
            splits[codes[i]], bool(near[i]), int(counts[i]), sketches[ends[i] : ends[i + 1]]
        )
        for i in range(count)
    }


def _checksum(head: Mapping[str, object], body: bytes) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode() + b"\n" + body).hexdigest()
