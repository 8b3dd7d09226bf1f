"""Token files on disk: one folder a corpus, written whole or not at all, and checked whenever it is opened.

`tokens.bin` holds the ids of all documents, little-endian uint16 or uint32, one split after the other; `counted.bin`,
only if there are conversations, a byte for each id: one if it is predicted and counted, else zero; `index.json` says
which document stands where. Nothing is repaired here: a folder that is damaged is as good as none.

The name of a folder is a digest of tokenizer, documents and their splits, so the same text is the same folder, and an
edit that is undone finds its old one. It is mapped and not read: a gigabyte of ids costs the pages that are looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.splits import SPLITS, Split
from p2pfinetune.data.stretches import Marks, is_conversation
from p2pfinetune.data.tokens import TokenArray, TokenDocument
from p2pfinetune.names import Digest

FORMAT = 5  # raise it when reading, cutting or dealing changes what a corpus holds
KEPT = 4  # corpora of one user: the one in use, and those of the last edits in case they are undone
TOKENS, COUNTED = "tokens.bin", "counted.bin"
TYPES: dict[str, np.dtype[np.unsignedinteger[Any]]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """The tokens of one split, document after document; `starts[i]` to `starts[i + 1]` is document i."""

    tokens: TokenArray
    starts: NDArray[np.int64]
    counted: Marks | None = None
    """Which tokens are learnt and measured, as what follows those before them; None: all, there are no conversations.

    A conversation is told by its first token, which is not counted; that of any other document is (`stretches`)."""
    front: tuple[int, ...] = ()
    """Ids that stand before every sequence that is made of it and are only read; see `data.profile`."""

    @classmethod
    def of(cls, documents: Sequence[TokenArray | TokenDocument]) -> TokenSplit:
        """A split in memory."""
        every = [one if isinstance(one, TokenDocument) else TokenDocument(one) for one in documents]
        starts = np.cumsum([0, *(len(one.ids) for one in every)], dtype=np.int64)
        tokens = np.concatenate([one.ids for one in every]) if every else np.empty(0, np.uint16)
        counted = None if all(one.counted is None for one in every) else np.concatenate([one.marks for one in every])
        return cls(tokens, starts, counted)

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return len(self.starts) - 1

    @property
    def counted_tokens(self) -> int:
        """How many tokens are counted."""
        return len(self.tokens) if self.counted is None else int(np.count_nonzero(self.counted))

    def document(self, i: int) -> TokenArray:
        """The tokens of document i, not copied."""
        return self.tokens[self.starts[i] : self.starts[i + 1]]

    def marks(self, i: int) -> Marks | None:
        """Which tokens of document i are counted, if it is a conversation."""
        if self.counted is None:
            return None
        found = self.counted[self.starts[i] : self.starts[i + 1]]
        return found if is_conversation(found) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """One document in the index: its digest, length in tokens, and where it was found."""

    id: str
    tokens: int
    source: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A corpus as it lies on disk; the fingerprint covers tokens, documents and their splits, and no names of files."""

    splits: Mapping[Split, TokenSplit]
    fingerprint: str
    tokenizer: str
    """Digest of the one that made the tokens."""
    ids: Mapping[Split, Sequence[str]]
    """Of the documents, in their order."""


def write(
    folder: Path, placed: Mapping[Split, Sequence[tuple[Entry, TokenDocument]]], width: str, tokenizer: str
) -> None:
    """Write beside the folder, then rename; whatever stood there is replaced."""
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    content, marks = hashlib.sha256(), hashlib.sha256() if _has_marks(placed) else None
    with (scratch / TOKENS).open("wb") as file, (scratch / COUNTED).open("wb") as beside:
        for split in SPLITS:
            for _, encoded in placed[split]:
                data = encoded.ids.astype(TYPES[width]).tobytes()
                content.update(data)
                file.write(data)
                if marks is not None:
                    data = encoded.marks.tobytes()
                    marks.update(data)
                    beside.write(data)
    splits = {split: [[entry.id, entry.tokens, entry.source] for entry, _ in placed[split]] for split in SPLITS}
    body = {
        "format": FORMAT,
        "tokenizer": tokenizer,
        "type": width,
        "tokens_sha256": content.hexdigest(),
        "counted_sha256": marks.hexdigest() if marks is not None else "",
        "splits": splits,
    }
    if marks is None:
        (scratch / COUNTED).unlink()
    (scratch / "index.json").write_text(json.dumps({"sha256": _digest(body), "index": body}), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def _has_marks(placed: Mapping[Split, Sequence[tuple[Entry, TokenDocument]]]) -> bool:
    return any(encoded.counted is not None for split in SPLITS for _, encoded in placed[split])


def held(placed: Mapping[Split, Sequence[tuple[Entry, TokenDocument]]], width: str, tokenizer: str) -> Stored:
    """The same corpus, with the same fingerprint, in memory."""
    content, marks = hashlib.sha256(), hashlib.sha256()
    for split in SPLITS:
        for _, encoded in placed[split]:
            content.update(encoded.ids.astype(TYPES[width]).tobytes())
            marks.update(encoded.marks.tobytes())
    index = {split: [[entry.id, entry.tokens] for entry, _ in placed[split]] for split in SPLITS}
    splits = {split: TokenSplit.of([encoded for _, encoded in placed[split]]) for split in SPLITS}
    ids = {split: [entry.id for entry, _ in placed[split]] for split in SPLITS}
    counted = marks.hexdigest() if _has_marks(placed) else ""
    return Stored(splits, _fingerprint(content.hexdigest(), index, counted), tokenizer, ids)


def _fingerprint(tokens: str, index: Any, counted: str) -> str:
    """Of text without conversations what it was before there were any."""
    return _digest([tokens, index, counted] if counted else [tokens, index])


def load(folder: Path) -> Stored | None:
    """The corpus in a folder, memory-mapped; None if there is no such folder or it is not as it was written."""
    try:
        stored = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        body = stored["index"]
        if _digest(body) != stored["sha256"] or body["format"] != FORMAT:
            return None
        for name, expected in ((TOKENS, body["tokens_sha256"]), (COUNTED, body["counted_sha256"])):
            if expected and _sha256(folder / name) != expected:
                return None
        placed = {split: [entry[:2] for entry in body["splits"][split]] for split in SPLITS}  # names of files are left
        ids = {split: [entry[0] for entry in body["splits"][split]] for split in SPLITS}
        fingerprint = _fingerprint(body["tokens_sha256"], placed, body["counted_sha256"])
        return Stored(_map(folder, body), fingerprint, str(body["tokenizer"]), ids)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _map(folder: Path, body: Mapping[str, Any]) -> dict[Split, TokenSplit]:
    tokens = np.memmap(folder / TOKENS, dtype=TYPES[body["type"]], mode="r")
    counted = np.memmap(folder / COUNTED, dtype=np.bool_, mode="r") if body["counted_sha256"] else None
    if counted is not None and len(counted) != len(tokens):
        raise ValueError(f"{len(tokens)} tokens, and {len(counted)} marks")
    splits: dict[Split, TokenSplit] = {}
    begin = 0
    for split in SPLITS:
        lengths = [length for _, length, _ in body["splits"][split]]
        starts = np.cumsum([0, *lengths], dtype=np.int64)
        here = slice(begin, begin + int(starts[-1]))
        splits[split] = TokenSplit(tokens[here], starts, None if counted is None else _some(counted[here]))
        begin += int(starts[-1])
        if any(length < 0 for length in lengths):
            raise ValueError("a document of less than no tokens")
    if begin != len(tokens):
        raise ValueError(f"{len(tokens)} tokens, {begin} in the index")
    return splits


def _some(counted: Marks) -> Marks | None:
    """None for a split without conversations, as `TokenSplit.of` has it."""
    return None if bool(counted.all()) else counted


def tokens_by_document(parent: Path, owner: str, tokenizer: str) -> dict[str, TokenDocument]:
    """What this tokenizer made of the documents of a user's last corpus, by id; nothing if there is no such corpus.

    An edit leaves most documents as they were, so the next corpus need not have them encoded again.
    """
    for folder in _by_age(parent, owner):
        stored = load(folder)
        if stored is not None and stored.tokenizer == tokenizer:
            return {
                document: TokenDocument(stored.splits[split].document(i), stored.splits[split].marks(i))
                for split in SPLITS
                for i, document in enumerate(stored.ids[split])
            }
    return {}


def splits_by_document(parent: Path, owner: str) -> dict[Digest, Split]:
    """Where the documents of a user's corpora were, by id, whatever wrote them.

    Of two sayings the later one, but what was ever trained on was trained on.
    """
    found: dict[Digest, Split] = {}
    trained: set[Digest] = set()
    for folder in reversed(_by_age(parent, owner)):
        try:
            stored = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            if _digest(stored["index"]) == stored["sha256"]:
                splits = stored["index"]["splits"]
                found |= {Digest(str(entry[0])): split for split in SPLITS for entry in splits[split]}
                trained |= {Digest(str(entry[0])) for entry in splits["train"]}
        except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            continue
    return found | dict.fromkeys(trained, "train")


def _by_age(parent: Path, owner: str) -> list[Path]:
    """The corpora of a user, the last used first. One that vanishes meanwhile is the oldest."""

    def used(folder: Path) -> int:
        try:
            return folder.stat().st_mtime_ns
        except OSError:
            return 0

    return sorted(parent.glob(f"{owner}-*"), key=used, reverse=True)


def prune(folder: Path) -> None:
    """Mark a corpus as used and remove the oldest of its user: text that is edited every day must not fill the disk."""
    os.utime(folder)
    owner = folder.name.partition("-")[0]
    abandoned = folder.parent.glob(f".{owner}-*")  # by a process that was killed while it wrote
    for old in [*_by_age(folder.parent, owner)[KEPT:], *abandoned]:
        shutil.rmtree(old, ignore_errors=True)


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
