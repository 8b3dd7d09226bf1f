"""Deals documents into splits for good: what was dealt stays, near copies go together, and what cannot is left out.

A document that was dealt before is where it was. A new one goes where its near copies are; a group of new ones goes
whole where the hash of one of them says. If no place is left, since near copies of it stand in several splits, it is
left out of all of them, for ever. What is in no split harms nothing, so leaving out is the answer to every doubt.

So this holds after every reading, whatever was added, edited or deleted before: no document stands in two splits, and
none shares over MOST_SHARED of what it has of its own with another split than its own. Texts that are gone are known by
their sketches, a third of a text to within a tenth; of those that are there, everything is compared (of more than
MOST_SEQUENCES, evenly drawn ones). It does not hold of boilerplate: if most texts with one signature are deleted, what
they share is few texts' own again, and they stay where they were dealt.

A sketch is the smallest values among a text's hashed sequences, the bottom-k form of Broder's MinHash: hashes are as
good as random, so their smallest are a fair sample, of which the part that another text has estimates the part of the
whole. The error falls with the root of its size and does not depend on the length of the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.dealt import Dealt, sketched
from p2pfinetune.data.documents import Document
from p2pfinetune.data.groups import LEAST_OWN, Marks, Numbers, Shared, common, group
from p2pfinetune.data.near_duplicates import MOST_SHARED, Sequences, sequences
from p2pfinetune.data.splits import NOTHING, SHARES, SPLITS, Split, deal
from p2pfinetune.names import Digest

MOST_SEQUENCES = 1 << 22  # compared at once: of some twenty megabytes of text, and an eighth of a gigabyte of memory
TRAIN = SPLITS.index("train")
NOWHERE = -1


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of a text once it was looked at."""

    count: int
    sketch: NDArray[np.uint32]
    kept: Sequences
    """Its sequences, or those of them that are drawn."""


@dataclass(slots=True)
class Looked:
    """The sequences of documents, each worked out once; of too many, evenly drawn ones are kept."""

    facts: dict[Digest, _Facts] = field(default_factory=dict)
    total: int = 0
    drawn: int = 0
    """Only sequences that end in so many zero bits are kept."""

    def at(self, documents: Iterable[Document]) -> list[_Facts]:
        """Those of these documents; all others are forgotten."""
        wanted = list(documents)
        ids = {document.id for document in wanted}
        self.facts = {document: facts for document, facts in self.facts.items() if document in ids}
        self.total = sum(len(facts.kept) for facts in self.facts.values())
        for document in wanted:
            if document.id not in self.facts:
                found = sequences(document.text)
                self.facts[document.id] = _Facts(len(found), sketched(found), self._drawn(found))
                self.total += len(self.facts[document.id].kept)
                self._thin()
        return [self.facts[document.id] for document in wanted]

    def _thin(self) -> None:
        while self.total > MOST_SEQUENCES:
            self.drawn += 1
            self.facts = {d: replace(facts, kept=self._drawn(facts.kept)) for d, facts in self.facts.items()}
            self.total = sum(len(facts.kept) for facts in self.facts.values())

    def _drawn(self, found: Sequences) -> Sequences:
        return found[found & np.uint64((1 << self.drawn) - 1) == 0] if self.drawn else found


@dataclass(frozen=True, slots=True)
class Hand:
    """New documents among those that are there, and what is asked of their dealing."""

    documents: Sequence[Document]
    """All that are there and not left out, by id."""
    rows: Mapping[Digest, Dealt]
    """All that were ever dealt."""
    wishes: Mapping[Digest, Split]
    """Where new documents are said to have been, by something less than a record; asked as if they were new."""
    sizes: Mapping[Digest, int]
    """In tokens, of each document."""
    salt: str
    minimum: Mapping[Split, int]


def dealt(hand: Hand, looked: Looked) -> dict[Digest, Dealt]:
    """The rows of the new documents, and of old ones that have near copies now. Pure but for what it remembers."""
    facts = looked.at(hand.documents)
    shared = Shared.of([one.kept for one in facts])
    boiler = common(shared)
    table = _Table(hand, shared, boiler, group(shared, boiler), _gone(hand, facts, shared, boiler, looked.drawn))
    splits = table.splits()
    near = table.near()
    found = {}
    for i, document in enumerate(hand.documents):
        before = hand.rows.get(document.id)
        if before is None:
            split = SPLITS[splits[i]] if splits[i] != NOWHERE else None
            found[document.id] = Dealt(split, bool(near[i]), facts[i].count, facts[i].sketch)
        elif near[i] > before.is_near or not before.count:
            found[document.id] = Dealt(before.split, bool(near[i]), facts[i].count, facts[i].sketch)
    return found


def alike(documents: Sequence[Document], looked: Looked) -> list[list[Digest]]:
    """The groups of near copies among these documents, those of a single document left out."""
    shared = Shared.of([facts.kept for facts in looked.at(documents)])
    groups: dict[int, list[Digest]] = {}
    for document, label in zip(documents, group(shared, common(shared)).tolist(), strict=True):
        groups.setdefault(label, []).append(document.id)
    return [members for members in groups.values() if len(members) > 1]


def _gone(hand: Hand, facts: Sequence[_Facts], shared: Shared, boiler: Marks, drawn: int) -> NDArray[np.float64]:
    """How much of each new document stood in each split, at most, in one text that is gone: (documents, splits)."""
    shares = np.zeros((len(facts), len(SPLITS)))
    present = {document.id for document in hand.documents}
    gone = [row for d, row in hand.rows.items() if d not in present and row.split and len(row.sketch)]
    new = [i for i, document in enumerate(hand.documents) if document.id not in hand.rows]
    if not gone or not new:
        return shares
    boilerplate = np.unique((shared.values[boiler] >> np.uint64(32)).astype(np.uint32))
    sketches = [np.setdiff1d(row.sketch, boilerplate) for row in gone]
    every = np.concatenate(sketches)
    owner = np.repeat(np.arange(len(gone)), [len(sketch) for sketch in sketches])
    order = np.argsort(every, kind="stable")
    every, owner = every[order], owner[order]
    own = shared.own(boiler)
    for i in new:
        mine = (facts[i].kept >> np.uint64(32)).astype(np.uint32)
        begins, ends = np.searchsorted(every, mine), np.searchsorted(every, mine, "right")
        hits = np.concatenate([owner[b:e] for b, e in zip(begins, ends, strict=True) if e > b] or [owner[:0]])
        for which, count in zip(*np.unique(hits, return_counts=True), strict=True):
            row, part = gone[which], count * (1 << drawn) / len(sketches[which])
            share = part * max(1.0, row.count * len(sketches[which]) / len(row.sketch) / max(1, own[i] << drawn))
            shares[i, SPLITS.index(row.split)] = max(shares[i, SPLITS.index(row.split)], share)
    return shares


class _Table:
    """One dealing. Documents are numbers here, and splits too; NOWHERE: not yet, or never."""

    def __init__(self, hand: Hand, shared: Shared, boiler: Marks, labels: Numbers, gone: NDArray[np.float64]) -> None:
        self._hand, self._shared, self._labels, self._gone = hand, shared, labels, gone
        self._counted = ~boiler[shared.sequence]
        self._own = np.maximum(shared.own(boiler), 1)
        self._hardly = shared.own(boiler) < LEAST_OWN * shared.sizes
        self._ids = [document.id for document in hand.documents]
        self._old = np.array([_code(hand.rows.get(document)) for document in self._ids], np.int64)
        self._new = dict.fromkeys(i for i, document in enumerate(self._ids) if document not in hand.rows)
        self._by_sequence = np.argsort(shared.sequence, kind="stable")
        self._sorted = shared.sequence[self._by_sequence]
        self._before = self._presence(self._old)

    def splits(self) -> Numbers:
        """Of every document. Those that have to be left out are taken away, and the others are dealt again."""
        left_out: set[int] = set()
        while True:
            placed = self._placed(left_out)
            refused = self._refused(placed)
            if not refused:
                return placed
            left_out |= refused

    def near(self) -> Marks:
        """Which documents are in a group, or near copies of a text that is gone."""
        members = np.bincount(self._labels, minlength=len(self._labels))
        found: Marks = (members[self._labels] > 1) | (self._gone.max(axis=1, initial=0.0) > MOST_SHARED)
        return found

    def _placed(self, left_out: Collection[int]) -> Numbers:
        placed = self._old.copy()
        groups: dict[int, list[int]] = {}
        for i in self._new:
            if i not in left_out:
                groups.setdefault(int(self._labels[i]), []).append(i)
        touched = self._touched()
        units: list[list[int]] = []
        for label, members in groups.items():
            wanted = touched.get(label, set())
            if not wanted:
                units.append(members)
            for i in members if wanted else ():
                placed[i] = next(iter(wanted)) if len(wanted) == 1 else self._nearest(i)
        self._deal(units, placed)
        return placed

    def _touched(self) -> dict[int, set[int]]:
        """In which splits each group stands already."""
        found: dict[int, set[int]] = {}
        for i, label in enumerate(self._labels.tolist()):
            splits = found.setdefault(label, set())
            wish = self._hand.wishes.get(self._ids[i])
            if self._old[i] != NOWHERE:
                splits.add(int(self._old[i]))
            elif wish is not None:
                splits.add(SPLITS.index(wish))
            if i in self._new:
                splits.update(np.flatnonzero(self._gone[i] > MOST_SHARED).tolist())
        return found

    def _nearest(self, i: int) -> int:
        """The split that holds most of a document whose group stands in several; train if none does."""
        wish = self._hand.wishes.get(self._ids[i])
        if wish is not None:
            return SPLITS.index(wish)
        shares = self._before[self._mine(i)].sum(axis=0) / self._own[i]
        best = np.maximum(shares, self._gone[i])
        return int(best.argmax()) if best.max() > 0 else TRAIN

    def _deal(self, units: Sequence[Sequence[int]], placed: Numbers) -> None:
        """Groups that stand nowhere yet, each as a whole."""
        sizes = {self._ids[min(unit)]: sum(self._size(i) for i in unit) for unit in units}
        there = dict(NOTHING)
        for i in np.flatnonzero(placed != NOWHERE).tolist():
            there[SPLITS[placed[i]]] += self._size(i)
        total = sum(sizes.values()) + sum(there.values())
        large = {
            self._ids[min(unit)]
            for unit in units
            if len(unit) > 1 and sizes[self._ids[min(unit)]] > SHARES["test"] * total
        }
        hardly = {self._ids[min(unit)] for unit in units if all(self._hardly[i] for i in unit)}
        found = deal(sizes, self._hand.salt, self._hand.minimum, there, to_train=hardly, rather_train=large)
        for unit in units:
            for i in unit:
                placed[i] = SPLITS.index(found[self._ids[min(unit)]])

    def _size(self, i: int) -> int:
        return self._hand.sizes[self._ids[i]]

    def _mine(self, i: int) -> Numbers:
        """The sequences of one document that others share and that are not common."""
        rows = self._shared.rows(i)
        found: Numbers = self._shared.sequence[rows][self._counted[rows]]
        return found

    def _presence(self, placed: Numbers) -> Marks:
        """Which sequences stand in which split: (sequences, splits)."""
        there = np.zeros((len(self._shared.values), len(SPLITS)), bool)
        rows = self._counted & (placed[self._shared.document] != NOWHERE)
        there[self._shared.sequence[rows], placed[self._shared.document[rows]]] = True
        return there

    def _shares(self, placed: Numbers) -> NDArray[np.float64]:
        """How much of each document stands in each split that is not its own: (documents, splits)."""
        there, shared = self._presence(placed), self._shared
        rows = self._counted & (placed[shared.document] != NOWHERE)
        documents = shared.document[rows]
        found = [
            np.bincount(documents, weights=there[shared.sequence[rows], split], minlength=len(placed)) / self._own
            for split in range(len(SPLITS))
        ]
        shares = np.maximum(np.column_stack(found), self._gone)
        shares[np.flatnonzero(placed != NOWHERE), placed[placed != NOWHERE]] = 0.0
        shares[placed == NOWHERE] = 0.0
        return shares

    def _refused(self, placed: Numbers) -> set[int]:
        """New documents to leave out, since they share too much with another split: of two new ones the shorter."""
        shares, refused = self._shares(placed), set[int]()
        for i, split in np.argwhere(shares > MOST_SHARED).tolist():
            others = self._holders(i, split, placed)
            if i in self._new and (not others or self._length(i) < self._length(others[0])):
                refused.add(i)
            elif others:
                refused.add(others[0])
        return refused

    def _holders(self, i: int, split: int, placed: Numbers) -> list[int]:
        """New documents of a split that hold something of document i; the one that holds most of it first."""
        rows = np.concatenate([self._rows_of(sequence) for sequence in self._mine(i)] or [np.empty(0, np.int64)])
        found = self._shared.document[rows]
        holders, counts = np.unique(found[(placed[found] == split)], return_counts=True)
        ranked = sorted(zip((-counts).tolist(), holders.tolist(), strict=True))
        return [holder for _, holder in ranked if holder in self._new]

    def _rows_of(self, sequence: int) -> Numbers:
        begin, end = np.searchsorted(self._sorted, [sequence, sequence + 1])
        return self._by_sequence[begin:end]

    def _length(self, i: int) -> tuple[int, int]:
        return int(self._shared.sizes[i]), -i


def _code(row: Dealt | None) -> int:
    return NOWHERE if row is None or row.split is None else SPLITS.index(row.split)
