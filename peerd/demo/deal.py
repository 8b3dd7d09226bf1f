"""Text for the demo's peers: dealt from what every installation has on disk, or a folder per peer of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peerd.demo.plan import MAX_PEERS, MIN_PEERS, SHARE_BYTES, kinds_of
from peerd.errors import UsageError

if TYPE_CHECKING:
    from p2pfinetune.data.documents import Document

PIECE_CHARACTERS = 600  # about 200 tokens: a share of 30 kB makes some fifty documents


def own_folders(data: Path) -> list[tuple[str, Path]]:
    """(domain, folder) for each sub-folder of `data`. Raises UsageError where there are too few or too many."""
    if not data.is_dir():
        raise UsageError(f"{data} is not a folder", "give --data a folder with one sub-folder per peer")
    folders = sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not MIN_PEERS <= len(folders) <= MAX_PEERS:
        raise UsageError(
            f"{data} has {len(folders)} sub-folders; the demo takes {MIN_PEERS} to {MAX_PEERS} peers",
            "make one sub-folder per peer, each with some text files",
        )
    return [(folder.name, folder) for folder in folders]


def deal_installed(peers: int, into: Path, seed: int) -> list[tuple[str, Path]]:
    """(kind, folder) a peer, disjoint shares of prose, Python and C++ found in the installed packages."""
    from p2pfinetune.data import partition

    kinds = kinds_of(peers)
    dealt: list[tuple[str, Path]] = []
    for kind in dict.fromkeys(kinds):
        shares = partition.deal(
            short_documents(kind), shares=kinds.count(kind), share_bytes=SHARE_BYTES, seed=seed, whole_sources=False
        )
        for number, share in enumerate(shares, start=1):
            folder = into / f"{kind}-{number}"
            partition.write_folder(folder, share)
            dealt.append((kind, folder))
    return dealt


def short_documents(kind: str) -> list[Document]:
    """Text of one kind in short documents, so that the four splits of a small share come out near their sizes.

    They are dealt at random, as the clients of one category were in arXiv 2404.09753.
    """
    from p2pfinetune.data.documents import Document
    from p2pfinetune.data.installed import documents_of

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
