"""Who deals one user's documents, reading after reading, and keeps the record of it beside what was learnt.

Without a place for the record (simulations, comparisons) everything is dealt once, in memory.

A record can be lost, or come from a backup older than the training. Then what it said is put together from what else
there is, the corpora in the token cache, and if something was learnt and nothing tells, the daemon refuses to start: to
hold out text that was trained on is the one mistake that nobody would ever see. What is told by something less than
a record is believed where it is safe to: "was trained on" always, "was held out" if no copy of it was trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from p2pfinetune.data import dealt as record
from p2pfinetune.data import token_cache
from p2pfinetune.data.dealing import Hand, Looked, dealt
from p2pfinetune.data.dealt import Dealt, NoRecordError
from p2pfinetune.data.documents import Document
from p2pfinetune.data.splits import Split, split_of
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest

TRAINED = Dealt("train", is_near=False, count=0, sketch=np.empty(0, np.uint32))
LOST_HINT = (
    "put the home back whole from a backup that has the file, or begin anew: "
    "peerd start --home ANOTHER-FOLDER --data FOLDER"
)
UNSURE = (
    "; a text that has changed since, or that is read in another way now, may be held out though it was trained on, "
    "and its figures may then look better than they are"
)


@dataclass(slots=True)
class Dealer:
    """The dealings of one user. `salt` belongs to the user and never changes: it decides what is held out."""

    salt: str
    path: Path | None = None
    """Of the record; None: it is in memory alone."""
    rows: dict[Digest, Dealt] = field(default_factory=dict)
    told: dict[Digest, Split] = field(default_factory=dict)
    """Where documents were, by what a lost record or an older version left."""
    by_hash: bool = False
    """An older version dealt the documents that are there, and `told` has the exceptions alone."""
    notice: str = ""
    """What happened to the record, for people."""
    looked: Looked = field(default_factory=Looked)

    @staticmethod
    def open(salt: str, path: Path, cache: Path, *, has_learnt: bool) -> Dealer:
        """With what was dealt before. Raises TextError if that cannot be known and something was learnt already.

        `cache` is the folder of token caches: an older version kept its exceptions there, and the corpora in it say
        where their documents were, so that a lost record can mostly be told again.
        """
        try:
            rows = record.read(path, owner_of(salt))
        except NoRecordError as error:
            dealer = Dealer(salt, path)
            if has_learnt and not dealer._recall(cache):
                raise TextError(
                    f"the record of which documents are held out, {path}, cannot be used: {error}. What was learnt in "
                    "this home was trained on some of your documents, and without the record nobody knows on which",
                    LOST_HINT,
                ) from error
            if has_learnt or not error.is_gone:
                instead = "made again from the token cache" if has_learnt else "made anew, since nothing was learnt yet"
                unsure = UNSURE if has_learnt else ""
                dealer.notice = f"the record of which documents are held out, {path}, was {instead}: {error}{unsure}"
            if not error.is_gone:
                path.replace(path.with_name(path.name + ".bak"))
            return dealer
        dealer = Dealer(salt, path, rows)
        if has_learnt:
            dealer._catch_up(cache)
        return dealer

    def is_new(self, document: Digest) -> bool:
        """Whether it was never dealt."""
        return document not in self.rows

    def deal(
        self, documents: Sequence[Document], sizes: Mapping[Digest, int], minimum: Mapping[Split, int]
    ) -> dict[Digest, Dealt]:
        """The rows of these documents; nothing is kept yet. `sizes` in tokens, of those in some split and new ones."""
        if not any(self.is_new(document.id) for document in documents):
            return {document.id: self.rows[document.id] for document in documents}
        rows = self.rows | self._trained(documents)
        there = [d for d in documents if d.id not in rows or rows[d.id].split is not None]
        there.sort(key=lambda document: document.id)
        found = dealt(Hand(there, rows, self._wishes(there, rows), sizes, self.salt, minimum), self.looked)
        return {document.id: found.get(document.id) or rows[document.id] for document in documents}

    def keep(self, rows: Mapping[Digest, Dealt]) -> None:
        """For good, before anything is trained on them, and what is told to have been trained on and is not there now.

        Raises TextError if the disk refuses.
        """
        rows = {**self._trained(()), **rows}
        if all(self.rows.get(document) is row for document, row in rows.items()) and self._is_there():
            return
        after = {**self.rows, **rows}
        if self.path is not None:
            record.write(self.path, owner_of(self.salt), after)
        self.rows, self.by_hash = after, False
        self.told = {document: split for document, split in self.told.items() if document not in after}

    def _is_there(self) -> bool:
        return self.path is None or self.path.exists()

    def _catch_up(self, cache: Path) -> None:
        """A record from a backup may be older than what was learnt; the corpora in the cache say what came between."""
        corpora = token_cache.splits_by_document(cache, owner_of(self.salt))
        self.told = {document: split for document, split in corpora.items() if document not in self.rows}
        if self.told:
            self.notice = (
                f"the record of which documents are held out, {self.path}, is older than what was learnt: where "
                f"{len(self.told):,} documents were is taken from the token cache"
            )

    def _recall(self, cache: Path) -> bool:
        """Whether anything is told of the documents: by corpora in the cache, or by an older version's exceptions."""
        owner = owner_of(self.salt)
        corpora = token_cache.splits_by_document(cache, owner)
        moved = _moved(cache / f"moved-{owner}.json")
        self.told = corpora | moved
        self.by_hash = bool(moved) and not corpora
        return bool(self.told)

    def _where(self, document: Digest) -> Split | None:
        return self.told.get(document) or (split_of(document, self.salt) if self.by_hash else None)

    def _trained(self, documents: Iterable[Document]) -> dict[Digest, Dealt]:
        """What is told to have been trained on stays in train, whatever else comes of it."""
        found = {document.id for document in documents if self.is_new(document.id)} | self.told.keys()
        return {d: TRAINED for d in sorted(found - self.rows.keys()) if self._where(d) == "train"}

    def _wishes(self, documents: Iterable[Document], rows: Mapping[Digest, Dealt]) -> dict[Digest, Split]:
        """What is told to have been held out stays so if no copy of it was trained on."""
        where = {document.id: self._where(document.id) for document in documents if document.id not in rows}
        return {document: split for document, split in where.items() if split is not None}


def owner_of(salt: str) -> str:
    """Names a user's files without giving the salt away."""
    return hashlib.sha256(salt.encode()).hexdigest()[:12]


def _moved(path: Path) -> dict[Digest, Split]:
    """The exceptions of an older version; nothing if the file is absent or damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {Digest(document): split for document, split in stored.items() if split in get_args(Split)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
