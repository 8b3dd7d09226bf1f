"""Deal documents of several categories to peers: disjoint shares of a given size and mixture.

Near-duplicates are taken out first, so that none stands in two shares, nor in two of the splits that a peer makes of
its share: a peer that holds a copy of another's test text would look like a good neighbour for the wrong reason. Which
text there is and what a peer does with it is not decided here.

Sizes are in bytes of UTF-8, since no tokenizer is known yet; a share is overfilled by up to a document.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from p2pfinetune.data.documents import Document
from p2pfinetune.data.near_duplicates import representatives
from p2pfinetune.errors import TextError
from p2pfinetune.names import Digest


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What one peer gets to learn from, and what is kept back to measure its models on."""

    given: tuple[Document, ...]
    test: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """What one peer holds."""

    by_category: Mapping[str, tuple[Document, ...]]

    @property
    def documents(self) -> list[Document]:
        """All of it."""
        return [document for category in self.by_category.values() for document in category]

    def proportions(self) -> dict[str, float]:
        """The part of each category in bytes, as it came out; sums to one."""
        held = {category: sum(map(_bytes, documents)) for category, documents in self.by_category.items()}
        return {category: count / sum(held.values()) for category, count in held.items()}


def deal(
    documents: Sequence[Document], *, shares: int, share_bytes: int, seed: int, whole_sources: bool = True
) -> list[list[Document]]:
    """Disjoint shares of one category. Raises TextError if there is too little text for all."""
    mixtures = [{"text": 1.0}] * shares
    dealt = mix({"text": documents}, mixtures, share_bytes=share_bytes, seed=seed, whole_sources=whole_sources)
    return [share.documents for share in dealt]


def deal_with_test(
    documents: Sequence[Document], *, shares: int, share_bytes: int, test_bytes: int, seed: int
) -> list[HeldOut]:
    """As `deal`, document by document, and `test_bytes` of others for each peer; less for all if there is less.

    Without near-duplicates among the documents there are none between what is given and any test, nor between tests.
    Raises TextError if there is too little text for the shares themselves.
    """
    order = _one_by_one(documents, seed)
    given = _fill(order, [share_bytes] * shares, "text")
    taken = {document.id for share in given for document in share}
    left = [stack for stack in order if stack[0].id not in taken]
    sizes = [_bytes(stack[0]) for stack in left]
    there = sum(sizes) / shares - max(sizes, default=0)  # a share is overfilled by up to a document
    tests = _fill(left, [min(float(test_bytes), max(there, 0.0))] * shares, "test text")
    return [HeldOut(tuple(mine), tuple(test)) for mine, test in zip(given, tests, strict=True)]


def hold_out(documents: Sequence[Document], *, test_bytes: int, most: float, seed: int) -> HeldOut:
    """One peer's documents divided: `test_bytes` to measure on, but at most the part `most` of all of them."""
    quota = min(float(test_bytes), most * sum(map(_bytes, documents)))
    order, taken = [stack[0] for stack in _one_by_one(documents, seed)], set[Digest]()
    for document in order:
        if quota - _bytes(document) >= 0:
            quota -= _bytes(document)
            taken.add(document.id)
    return HeldOut(
        tuple(document for document in documents if document.id not in taken),
        tuple(document for document in documents if document.id in taken),
    )


def mix(
    categories: Mapping[str, Sequence[Document]],
    mixtures: Sequence[Mapping[str, float]],
    *,
    share_bytes: int,
    seed: int,
    whole_sources: bool = True,
) -> list[Share]:
    """A share for each mixture (category -> part, summing to one), of `share_bytes` to within a document a category.

    `whole_sources`: text of one source goes to one peer, as a person's text would, so that peers of a kind are alike in
    kind and not in source. Otherwise documents are dealt one by one, as in arXiv 2404.09753.
    """
    names = sorted(categories)
    pool = [(name, document) for name in names for document in categories[name]]
    kept = [pool[i] for i in representatives([document.text for _, document in pool])]
    held: list[dict[str, tuple[Document, ...]]] = [{} for _ in mixtures]
    for name in names:
        quotas = [mixture.get(name, 0.0) * share_bytes for mixture in mixtures]
        documents = [document for category, document in kept if category == name]
        stacks = _by_source(documents, seed) if whole_sources else _one_by_one(documents, seed)
        for peer, documents in enumerate(_fill(stacks, quotas, name)):
            held[peer][name] = tuple(documents)
    return [Share(categories) for categories in held]


def write_folder(folder: Path, documents: Sequence[Document]) -> Path:
    """One row a document in `documents.jsonl`; returns that file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "documents.jsonl"
    rows = (json.dumps({"text": document.text, "source": document.source}) for document in documents)
    path.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def _bytes(document: Document) -> int:
    return len(document.text.encode())


def _by_source(documents: Sequence[Document], seed: int) -> list[list[Document]]:
    """Documents of each source together and in order, sources in an order drawn from the seed."""
    sources: dict[str, list[Document]] = {}
    for document in documents:
        sources.setdefault(document.source, []).append(document)
    order = list(sources.values())
    random.Random(seed).shuffle(order)
    return order


def _one_by_one(documents: Sequence[Document], seed: int) -> list[list[Document]]:
    """Each document by itself, in an order drawn from the seed."""
    order = [[document] for document in documents]
    random.Random(seed).shuffle(order)
    return order


def _fill(sources: Sequence[Sequence[Document]], quotas: Sequence[float], name: str) -> list[list[Document]]:
    """Each source to the peer that lacks most; what is left of it when that peer has enough goes to nobody."""
    held: list[list[Document]] = [[] for _ in quotas]
    lacking = list(quotas)
    for source in sources:
        peer = max(range(len(quotas)), key=lambda i: lacking[i])
        for document in source:
            if lacking[peer] > 0:
                held[peer].append(document)
                lacking[peer] -= _bytes(document)
    if max(lacking, default=0.0) > 0:
        missing = sum(max(0.0, quota) for quota in lacking)
        raise TextError(
            f"too little text of {name} to deal: {missing:,.0f} bytes are missing of {sum(quotas):,.0f}",
            "deal to fewer peers, or give each less",
        )
    return held
