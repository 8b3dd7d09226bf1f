"""A user's text as four token splits: read, encoded, dealt, and cached by content.

The cache holds a folder for each corpus (see `token_cache`) and, for each salt, `moved-SALT.json`: the documents that
had to leave the split of their hash because too little text was there, so that they stay where they are when text is
added. Neither holds anything that cannot be made again. Nothing here trains or scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from p2pfinetune.data import token_cache
from p2pfinetune.data.documents import Document, read_documents
from p2pfinetune.data.files import FoundFile, walk
from p2pfinetune.data.reading_memory import ReadingMemory, is_at_rest
from p2pfinetune.data.report import ReadReport
from p2pfinetune.data.splits import SPLITS, Split, deal, exceptions, tokens_by_split
from p2pfinetune.data.token_cache import Entry, TokenSplit
from p2pfinetune.data.tokens import TokenArray, encode, token_type
from p2pfinetune.errors import TextError, TooLittleText
from p2pfinetune.names import Digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Corpus", "TokenSplit", "glance", "minimum_tokens", "prepare", "read_whole"]

WINDOW = 256  # tokens: with a longer context the minima do not grow, since a document fills few long windows anyway
LEAST_TRAIN = 8  # windows: one batch of the default size
LEAST_MEASURE = 2  # windows: below some 500 tokens a loss says next to nothing


@dataclass(frozen=True, slots=True)
class Corpus:
    """The four splits of one user's text. `fingerprint` changes when, and only when, what they hold does."""

    train: TokenSplit
    trust: TokenSplit
    guard: TokenSplit
    test: TokenSplit
    report: ReadReport
    fingerprint: str

    def split(self, name: Split) -> TokenSplit:
        """The split of that name."""
        splits = {"train": self.train, "trust": self.trust, "guard": self.guard, "test": self.test}
        return splits[name]


def minimum_tokens(context: int) -> dict[Split, int]:
    """The fewest tokens of each split with which a round means anything: some 12 KB of English in all at 256 tokens."""
    window = min(context, WINDOW)
    measure = LEAST_MEASURE * window
    return {"train": max(LEAST_TRAIN * window, context + 1), "trust": measure, "guard": measure, "test": measure}


def prepare(
    paths: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokenizer_digest: Digest,
    cache: Path,
    context: int,
    salt: str,
    memory: ReadingMemory | None = None,
    now_ns: int = 0,
) -> Corpus:
    """Read the paths into a corpus. Raises TextError, or TooLittleText saying how much there is and is needed.

    `salt` belongs to one user and never changes: it decides which documents are held out. With the `memory` of earlier
    readings and the time `now_ns` since 1970, files that have not changed are not opened again.
    """
    documents, report = read_documents(paths, memory, now_ns)
    owner = hashlib.sha256(salt.encode()).hexdigest()[:12]
    minimum = minimum_tokens(context)
    content = sorted(document.id for document in documents)
    folder = cache / f"{owner}-{_digest(token_cache.FORMAT, tokenizer_digest, minimum, content)[:32]}"
    stored = token_cache.load(folder)
    if stored is None:
        tokens = _encoded(documents, tokenizer, token_cache.tokens_by_document(cache, owner, tokenizer_digest))
        placed = _place(tokens, salt, minimum, cache / f"moved-{owner}.json", report)
        token_cache.write(
            folder, _by_split(documents, tokens, placed), token_type(tokenizer).__name__, tokenizer_digest
        )
        stored = token_cache.load(folder)
    if stored is None:
        raise TextError(f"the token files written to {folder} cannot be read back", "check the disk")
    token_cache.prune(folder)
    splits = {str(split): stored.splits[split] for split in SPLITS}
    return Corpus(**splits, report=report, fingerprint=stored.fingerprint)


def _encoded(
    documents: Sequence[Document], tokenizer: PreTrainedTokenizerBase, known: Mapping[str, TokenArray]
) -> dict[Digest, TokenArray]:
    """The tokens of each document; only those not known yet are encoded."""
    fresh = [document for document in documents if document.id not in known]
    made = dict(zip((d.id for d in fresh), encode([d.text for d in fresh], tokenizer), strict=True))
    return {d.id: made[d.id] if d.id in made else known[d.id] for d in documents}


def _place(
    tokens: Mapping[Digest, TokenArray], salt: str, minimum: Mapping[Split, int], record: Path, report: ReadReport
) -> dict[Digest, Split]:
    """Deal the documents, remembering those that had to move."""
    sizes = {document: len(ids) for document, ids in tokens.items()}
    moved = _read_moved(record)
    placed = deal(sizes, salt, minimum, moved)
    _require(tokens_by_split(sizes, placed), minimum, report)
    record.parent.mkdir(parents=True, exist_ok=True)
    _write_moved(record, moved | exceptions(placed, salt))
    return placed


def _by_split(
    documents: Sequence[Document], tokens: Mapping[Digest, TokenArray], placed: Mapping[Digest, Split]
) -> dict[Split, list[tuple[Entry, TokenArray]]]:
    """Documents by id inside each split, so that equal text gives equal files whatever its files are called."""
    by_split: dict[Split, list[tuple[Entry, TokenArray]]] = {split: [] for split in SPLITS}
    for document in sorted(documents, key=lambda document: document.id):
        ids = tokens[document.id]
        by_split[placed[document.id]].append((Entry(document.id, len(ids), document.source), ids))
    return by_split


def _require(tokens: Mapping[Split, int], minimum: Mapping[Split, int], report: ReadReport) -> None:
    lacking = [split for split in SPLITS if tokens[split] < minimum[split]]
    if not lacking:
        return
    there, needed = sum(tokens.values()), sum(minimum.values())
    each = ", ".join(f"{split} {tokens[split]:,} of {minimum[split]:,}" for split in SPLITS)
    found, *left_out = report.sentences()
    because = "".join(f"; {sentence}" for sentence in left_out)
    raise TooLittleText(
        f"too little text: {there:,} tokens in {found}; at least {needed:,} tokens are needed ({each}){because}",
        f"add text (about {4 * max(needed - there, minimum[lacking[0]]):,} more characters), in several documents or "
        "as one long one; documents are never divided between splits",
    )


def read_whole(paths: Sequence[Path], tokenizer: PreTrainedTokenizerBase, *, context: int) -> TokenSplit:
    """All documents as one split, for a public reference set. Raises TextError, or TooLittleText below one window."""
    documents, report = read_documents(paths)
    documents.sort(key=lambda document: document.id)
    split = TokenSplit.of(list(encode([document.text for document in documents], tokenizer)))
    if len(split.tokens) <= context:
        raise TooLittleText(
            f"too little reference text: {len(split.tokens):,} tokens in {report.sentences()[0]}",
            f"give more than {context:,} tokens",
        )
    return split


def glance(paths: Sequence[Path], now_ns: int = 0) -> str:
    """A cheap fingerprint of names, sizes and times of change; opens nothing and never raises because text is gone.

    `now_ns` is the time since 1970. A file that has just changed looks different once it has been at rest, since it may
    have been changed once more without a trace in its times: see `reading_memory`.
    """
    found: list[object] = []
    for path in paths:
        try:
            files = [file for file in walk([path]) if isinstance(file, FoundFile)]
            found.extend(
                (str(file.path), file.size_bytes, file.changed_ns, file.inode_changed_ns, is_at_rest(file, now_ns))
                for file in files
            )
        except TextError:
            found.append((str(path), "missing"))
    return _digest(found)


def _read_moved(path: Path) -> dict[Digest, Split]:
    """Nothing where the file is absent or damaged: then the hash decides again."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {Digest(document): split for document, split in stored.items() if split in get_args(Split)}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _write_moved(path: Path, moved: Mapping[Digest, Split]) -> None:
    if moved:
        scratch = path.with_suffix(".part")
        scratch.write_text(json.dumps(moved, sort_keys=True), encoding="utf-8")
        scratch.replace(path)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
