"""Text for the demo's peers, and text to measure their models on, which lies in no peer's folder.

Both are dealt from what every installation has on disk, or from a folder per peer of the user's own. Of near copies,
whoever's they are, one alone is kept before anything is dealt, so no text that a model is measured on has a copy in
what any peer reads, nor in what another is measured on. Documents are dealt at random, as the clients of one category
were in arXiv 2404.09753: what is measured on is of the kind that a peer holds, from the same modules and files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peerd.demo.plan import MAX_PEERS, MIN_PEERS, OWN_TEST_BYTES, SHARE_BYTES, TEST_BYTES, kinds_of, names_of
from peerd.errors import UsageError

if TYPE_CHECKING:
    from p2pfinetune.data.documents import Document

PIECE_CHARACTERS = 600  # about 200 tokens: a share of 30 kB makes some fifty documents
MOST_OWN_TEST = 0.3  # of the text of a folder of the user's: the rest is what its peer learns from


@dataclass(frozen=True, slots=True)
class DealtText:
    """What one peer starts with, and what its models are measured on at the end."""

    name: str
    domain: str
    folder: Path
    test: tuple[Document, ...]


def own_folders(data: Path) -> list[Path]:
    """Each sub-folder of `data`. Raises UsageError if there are too few or too many."""
    if not data.is_dir():
        raise UsageError(f"{data} is not a folder", "give --data a folder with one sub-folder per peer")
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not MIN_PEERS <= len(folders) <= MAX_PEERS:
        raise UsageError(
            f"{data} has {len(folders)} sub-folders; the demo takes {MIN_PEERS} to {MAX_PEERS} peers",
            "make one sub-folder per peer, each with some text files",
        )
    return folders


def deal_own(data: Path, into: Path, seed: int) -> tuple[list[DealtText], int]:
    """The user's folders, each with a part held out; a copy of the rest is what its peer reads.

    And how many documents were left out as near copies of others, of whoever's.
    """
    from p2pfinetune.data import partition
    from p2pfinetune.data.documents import read_documents

    read = {folder.name: read_documents([folder])[0] for folder in own_folders(data)}
    kept = without_near_copies(read)
    dealt = []
    for name, documents in kept.items():
        held = partition.hold_out(documents, test_bytes=OWN_TEST_BYTES, most=MOST_OWN_TEST, seed=seed)
        partition.write_folder(into / name, held.given)
        dealt.append(DealtText(name, name, into / name, held.test))
    return dealt, sum(map(len, read.values())) - sum(map(len, kept.values()))


def deal_installed(peers: int, into: Path, seed: int) -> list[DealtText]:
    """Disjoint shares of prose, Python and C++ found in the installed packages."""
    from p2pfinetune.data import partition

    kinds = kinds_of(peers)
    kept = without_near_copies({kind: short_documents(kind) for kind in dict.fromkeys(kinds)})
    shares = [
        (kind, share)
        for kind, documents in kept.items()
        for share in partition.deal_with_test(
            documents, shares=kinds.count(kind), share_bytes=SHARE_BYTES, test_bytes=TEST_BYTES[kind], seed=seed
        )
    ]
    dealt = []
    for name, (kind, held) in zip(names_of([kind for kind, _ in shares]), shares, strict=True):
        partition.write_folder(into / name, held.given)
        dealt.append(DealtText(name, kind, into / name, held.test))
    return dealt


def without_near_copies(holdings: Mapping[str, Sequence[Document]]) -> dict[str, list[Document]]:
    """Of each group of nearly equal documents one, wherever they stand."""
    from p2pfinetune.data.near_duplicates import representatives

    pool = [(name, document) for name, documents in holdings.items() for document in documents]
    kept = [pool[i] for i in representatives([document.text for _, document in pool])]
    return {name: [document for holder, document in kept if holder == name] for name in holdings}


def short_documents(kind: str) -> list[Document]:
    """Text of one kind in short documents, so that the four splits of a small share come out near their sizes."""
    from p2pfinetune.data.documents import Document
    from p2pfinetune.paper.installed_text import documents_of

    return [
        Document.of(piece, document.source) for document in documents_of(kind) for piece in pieces_of(document.text)
    ]


def pieces_of(text: str) -> list[str]:
    """Whole lines, some PIECE_CHARACTERS at a time; a short rest stays with the piece before it."""
    pieces = [""]
    for line in text.splitlines(keepends=True):
        if len(pieces[-1]) >= PIECE_CHARACTERS:
            pieces.append("")
        pieces[-1] += line
    if len(pieces) > 1 and len(pieces[-1]) < PIECE_CHARACTERS // 2:
        pieces[-2:] = [pieces[-2] + pieces[-1]]
    return [piece for piece in pieces if piece.strip()]
