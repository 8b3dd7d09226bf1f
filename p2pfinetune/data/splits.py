"""Which document serves for what: train, trust, guard or test. Pure; knows neither files nor tokens.

A document goes where the salted hash of its id says, so adding or removing text never moves another document: a split
drawn by a generator would be dealt anew with every file that is added, and yesterday's test text trained on today. The
salt is the peer's own id, so that two peers with one text hold out different parts of it (docs/adr/0006). Only if that
would leave a split of a small collection too small do single documents go elsewhere. Which documents are near copies
and therefore go together, and what was dealt before and stays, is decided in `dealing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, get_args

from p2pfinetune.names import Digest

Split = Literal["train", "trust", "guard", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
NOTHING: Mapping[Split, int] = MappingProxyType(dict.fromkeys(SPLITS, 0))

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
    sizes: Mapping[Digest, int],
    salt: str,
    minimum: Mapping[Split, int],
    there: Mapping[Split, int] = NOTHING,
    *,
    to_train: Collection[Digest] = (),
    rather_train: Collection[Digest] = (),
) -> dict[Digest, Split]:
    """A split for every new document, or group of documents under one id, of the given sizes in tokens.

    If a split lacks its minimum, some move into it in the order of their hash, out of train first and never out of a
    split that would then be too small itself; it stays too small only if there are none. `there` is what each split
    holds already and keeps. Those in `to_train` are never held out, those in `rather_train` only if no others are.
    """
    kept = {*to_train, *rather_train}
    placed: dict[Digest, Split] = {d: "train" if d in kept else split_of(d, salt) for d in sizes}
    tokens = tokens_by_split(sizes, placed)
    tokens = {split: count + there[split] for split, count in tokens.items()}
    for split in SPLITS:
        if tokens[split] >= minimum[split]:
            continue
        elsewhere = [d for d, place in placed.items() if place != split and d not in to_train]
        for document in sorted(elsewhere, key=lambda d: (d in rather_train, placed[d] != "train", position(d, salt))):
            donor = placed[document]
            if tokens[split] < minimum[split] and tokens[donor] - sizes[document] >= minimum[donor]:
                tokens[donor] -= sizes[document]
                tokens[split] += sizes[document]
                placed[document] = split
    return placed


def tokens_by_split(sizes: Mapping[Digest, int], placed: Mapping[Digest, Split]) -> dict[Split, int]:
    """How many tokens each split holds."""
    tokens: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    for document, split in placed.items():
        tokens[split] += sizes[document]
    return tokens
