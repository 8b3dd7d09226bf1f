"""Draw documents of several kinds until they suffice for all quotas, no two of them nearly equal.

Only what is drawn is tokenised. Which document goes to whom is decided by its hash, salted with the seed; a document
that is longer than what a quota still lacks is cut there, so that quotas are met to the token, and nobody else gets the
rest of it: the rest of a document is near text to its beginning, and would tie a peer's training to another's test.

How much has to be drawn is not known before near-duplicates are out, so a well guesses from a sample, draws, and
deepens if that was too little. Kinds are looked through together, for the same text may stand in two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.documents import Document
from p2pfinetune.data.near_duplicates import representatives
from p2pfinetune.data.splits import position
from p2pfinetune.data.tokens import TokenArray, encode
from p2pfinetune.paper.sources import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DRAWN = 1.3  # times the text that is needed: near-duplicates are taken out, and the ends of cut documents are lost
SAMPLE = 64  # pieces that tell how many characters a token has


@dataclass(slots=True)
class Well:
    """Text of one kind that quotas are filled from, and as much of it as has been drawn."""

    sources: tuple[Source, ...]
    pieces: list[tuple[str, Source]] = field(default_factory=list)
    documents: list[TokenArray] = field(default_factory=list)
    """Without near-duplicates, in the order in which they are dealt."""
    is_exhausted: bool = False
    _characters: int = 0
    _wanted: float = 0.0
    _rest: Iterator[tuple[str, Source]] = field(default_factory=lambda: iter(()))

    @property
    def tokens(self) -> int:
        """How many there are to deal."""
        return sum(map(len, self.documents))

    def begin(self, needed: int, data: Path, seed: int, tokenizer: PreTrainedTokenizerBase) -> None:
        """Draw about DRAWN times the tokens needed."""
        self._rest = ((piece, source) for source in self.sources for piece in source.read(data, seed))
        self._take(SAMPLE)
        tokens = sum(map(len, encode([piece for piece, _ in self.pieces], tokenizer)))
        self._wanted = DRAWN * needed * self._characters / max(tokens, 1)
        self._fetch()

    def deepen(self, needed: int) -> None:
        """Draw more, judging by what the last draw gave; at least half as much again."""
        self._wanted = self._characters * max(1.5, 1.1 * needed / max(self.tokens, 1))
        self._fetch()

    def _fetch(self) -> None:
        while self._characters < self._wanted and not self.is_exhausted:
            self._take(SAMPLE)

    def _take(self, count: int) -> None:
        taken = list(itertools.islice(self._rest, count))
        self.is_exhausted = len(taken) < count
        self.pieces += taken
        self._characters += sum(len(piece) for piece, _ in taken)


def draw(
    wells: Mapping[str, Well],
    quotas: Mapping[str, Sequence[int]],
    *,
    data: Path,
    seed: int,
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    """Fill the wells until every quota can be met; returns those that hold too little although all of it was drawn."""
    for name, well in wells.items():
        well.begin(sum(quotas[name]), data, seed, tokenizer)
    while True:
        _prepare(wells, seed, tokenizer)
        short = [name for name, well in wells.items() if fill(lengths(well.documents), quotas[name]) is None]
        thirsty = [name for name in short if not wells[name].is_exhausted]
        if not thirsty:
            return short
        for name in thirsty:
            wells[name].deepen(sum(quotas[name]))


def _prepare(wells: Mapping[str, Well], seed: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """The documents of all wells, once the near-duplicates within and across them are out."""
    drawn = [(name, piece, source) for name, well in wells.items() for piece, source in well.pieces]
    kept = [drawn[i] for i in representatives([piece for _, piece, _ in drawn])]
    for name, well in wells.items():
        texts = _grouped([(piece, source) for owner, piece, source in kept if owner == name])
        found = {document.id: document for document in (Document.of(text, name) for text in texts)}
        ordered = sorted(found.values(), key=lambda document: position(document.id, str(seed)))
        well.documents = list(encode([document.text for document in ordered], tokenizer))


def _grouped(pieces: Sequence[tuple[str, Source]]) -> Iterator[str]:
    """Documents of as many pieces as their source says."""
    for source, run in itertools.groupby(pieces, key=lambda pair: pair[1]):
        texts = [piece for piece, _ in run]
        for begin in range(0, len(texts), source.per_document):
            yield "\n".join(texts[begin : begin + source.per_document])


def lengths(documents: Sequence[TokenArray]) -> NDArray[np.int64]:
    """In tokens."""
    return np.fromiter(map(len, documents), np.int64, len(documents))


def fill(sizes: NDArray[np.int64], quotas: Sequence[int]) -> list[range] | None:
    """Which of the documents, of these sizes in order, meet each quota; the last of each range may be too long.

    None if they do not suffice. No document is in two ranges.
    """
    ends = np.cumsum(sizes)
    ranges, first = [], 0
    for quota in quotas:
        begins = int(ends[first - 1]) if first else 0
        after = first if quota <= 0 else int(np.searchsorted(ends, begins + quota)) + 1
        if after > len(sizes):
            return None
        ranges.append(range(first, after))
        first = after
    return ranges


def cut_to(documents: Sequence[TokenArray], quota: int) -> list[TokenArray]:
    """The documents, the last one without the tokens that are over the quota."""
    surplus = sum(map(len, documents)) - quota
    return [*documents[:-1], documents[-1][: len(documents[-1]) - surplus]] if documents else []
