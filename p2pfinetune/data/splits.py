"""Which document serves for what: train, trust, guard or test. Pure; knows neither files nor tokens.

A document goes where the salted hash of its id says, so adding or removing text never moves another document. Only
where that would leave a split of a small collection too small are single documents moved into it, and `deal` returns
these exceptions so that the caller can record them and give them back the next time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal, get_args

from p2pfinetune.names import Digest

Split = Literal["train", "trust", "guard", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# Each measuring split gets a tenth: with the demo's 60 to 120 KB that is some two to four thousand tokens, the least on
# which losses a few hundredths of a nat apart can be told from one another; more would be taken from training.
SHARES: Mapping[Split, float] = {"train": 0.7, "trust": 0.1, "guard": 0.1, "test": 0.1}


def position(document: Digest, salt: str) -> float:
    """A number in [0, 1) that is as good as random, from the id and the salt alone."""
    digest = hashlib.sha256(f"{salt}\n{document}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(document: Digest, salt: str, shares: Mapping[Split, float] = SHARES) -> Split:
    """Where a document belongs; `shares` sum to one."""
    place, edge = position(document, salt), 0.0
    for split in SPLITS:
        edge += shares[split]
        if place < edge:
            return split
    return "train"  # the shares may sum to a hair less than one


def deal(
    sizes: Mapping[Digest, int], salt: str, minimum: Mapping[Split, int], moved: Mapping[Digest, Split]
) -> dict[Digest, Split]:
    """A split for every document, of the given sizes in tokens.

    Where a split lacks its minimum, documents move into it in the order of their hash, out of train first and never out
    of a split that would then be too small itself; it stays too small only where there is no such document. `moved`
    holds the exceptions of earlier times.
    """
    placed = {document: moved.get(document, split_of(document, salt)) for document in sizes}
    tokens = tokens_by_split(sizes, placed)
    for split in SPLITS:
        if tokens[split] >= minimum[split]:
            continue
        for document in _candidates(placed, split, salt):
            donor = placed[document]
            if tokens[split] < minimum[split] and tokens[donor] - sizes[document] >= minimum[donor]:
                tokens[donor] -= sizes[document]
                tokens[split] += sizes[document]
                placed[document] = split
    return placed


def _candidates(placed: Mapping[Digest, Split], split: Split, salt: str) -> list[Digest]:
    elsewhere = (document for document, place in placed.items() if place != split)
    return sorted(elsewhere, key=lambda document: (placed[document] != "train", position(document, salt)))


def exceptions(placed: Mapping[Digest, Split], salt: str) -> dict[Digest, Split]:
    """The documents that are not where their hash says."""
    return {document: split for document, split in placed.items() if split != split_of(document, salt)}


def tokens_by_split(sizes: Mapping[Digest, int], placed: Mapping[Digest, Split]) -> dict[Split, int]:
    """How many tokens each split holds."""
    tokens: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for document, split in placed.items():
        tokens[split] += sizes[document]
    return tokens
