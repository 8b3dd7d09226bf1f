"""A user's text as four token splits: read, encoded, dealt, and cached by content.

    train   what steps are taken on, 7 tenths
    trust   what neighbours' adapters are scored on, so what the trust row is chosen by
    guard   what a merge is accepted or refused on: the row has never seen it
    test    what is reported at the end and decides nothing

Three measuring splits and not one: whatever chooses on a text fits itself to it, and the next question needs text that
nothing was chosen by. arXiv 2404.09753 scores trust and reports on the same text, in its released code.

The cache holds a folder for each corpus (see `token_cache`), and nothing that cannot be made again. Which document is
in which split is no cache but state, and the business of a `Dealer`. Nothing here trains or scores.

The order matters in one place: what was dealt is on disk before a corpus is returned (`Dealer.keep`), so that no step
is ever taken on a document whose place may still change.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from p2pfinetune.data import token_cache
from p2pfinetune.data.chats.marking import ChatRefusal, token_documents
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.dealt import Dealt, copies_of
from p2pfinetune.data.documents import Document, read_documents
from p2pfinetune.data.encodings import NO_NAMES
from p2pfinetune.data.files import FoundFile, walk
from p2pfinetune.data.reading_memory import ReadingMemory, is_at_rest
from p2pfinetune.data.report import ReadReport
from p2pfinetune.data.splits import SPLITS, Split, tokens_by_split
from p2pfinetune.data.telling import COMPARING, ENCODING, WRITING, Tell, each, silent
from p2pfinetune.data.token_cache import Entry, Stored, TokenSplit
from p2pfinetune.data.tokens import TokenDocument, token_type
from p2pfinetune.errors import TextError, TooLittleText
from p2pfinetune.names import Digest, Loss

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Corpus", "TokenSplit", "glance", "minimum_tokens", "prepare", "read_whole"]

WINDOW = 256  # tokens: with a longer context the minima do not grow, since a document fills few long windows anyway
LEAST_TRAIN = 8  # windows: one batch of the default size
LEAST_MEASURE = 2  # windows: below some 500 tokens a loss says next to nothing
NEVER_DIVIDED = "documents are never divided between splits, and near copies stay together"
NEVER_MOVED = "what was trained on is never held out later, nor the other way round, so it has to be new text"


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
    dealer: Dealer | None = None,
    memory: ReadingMemory | None = None,
    now_ns: int = 0,
    encodings: Mapping[PurePath, str] = NO_NAMES,
    me: str = "",
    loss: Loss = "answers",
    keep_secrets: bool = False,
    tell: Tell = silent,
) -> Corpus:
    """Read the paths into a corpus. Raises TextError, or TooLittleText saying how much there is and is needed.

    `salt` belongs to one user and never changes: it decides which documents are held out. `dealer` is the user's, and
    knows what was dealt before; without one everything is dealt as if for the first time. With the `memory` of earlier
    readings and the time `now_ns` since 1970, files that have not changed are not opened again. For `encodings`
    and what follows see `read_documents`. `loss` says what of conversations counts.
    """
    documents, report = read_documents(
        paths, memory, now_ns, encodings, me=me, keep_secrets=keep_secrets, spool=cache, tell=tell
    )
    report = replace(report, loss=loss)
    dealer, minimum = dealer or Dealer(salt), minimum_tokens(context)
    tokens = _Tokens(tokenizer, tokenizer_digest, cache, owner_of(dealer.salt), loss, tell)
    rows = _dealt(documents, dealer, tokens, minimum, report)
    tell(WRITING, 0, 0)
    placed = _placed(rows)
    documents = [document for document in documents if document.id in placed]
    stored = tokens.stored(documents, placed)
    report = replace(report, copies=copies_of(rows.values()), refused=_refused(documents, stored))
    require({split: stored.splits[split].counted_tokens for split in SPLITS}, minimum, report, dealer)
    splits = {str(split): stored.splits[split] for split in SPLITS}
    return Corpus(**splits, report=report, fingerprint=stored.fingerprint)


def _placed(rows: Mapping[Digest, Dealt]) -> dict[Digest, Split]:
    """Where each document is that is not left out."""
    return {document: row.split for document, row in rows.items() if row.split is not None}


def _refused(documents: Sequence[Document], stored: Stored) -> int:
    """How many conversations have no tokens, since the template has no place for them."""
    talks = {document.id for document in documents if document.turns}
    sizes = ((i, size) for s in SPLITS for i, size in zip(stored.ids[s], np.diff(stored.splits[s].starts), strict=True))
    return sum(not size and document in talks for document, size in sizes)


def _dealt(
    documents: Sequence[Document], dealer: Dealer, tokens: _Tokens, minimum: Mapping[Split, int], report: ReadReport
) -> dict[Digest, Dealt]:
    """What became of each document, recorded. If there is too little text nothing is recorded."""
    sizes: dict[Digest, int] = {}
    if any(dealer.is_new(document.id) for document in documents):
        # what is left out is left out for good, stands in no corpus, and would be encoded again every time
        weighed = [d for d in documents if dealer.is_new(d.id) or dealer.rows[d.id].split is not None]
        sizes = {document: encoded.size for document, encoded in tokens.of(weighed).items()}
    tokens.tell(COMPARING, 0, len(documents))
    rows = dealer.deal(documents, sizes, minimum)
    if sizes or not documents:
        report = replace(report, copies=copies_of(rows.values()))
        require(tokens_by_split(sizes, _placed(rows)), minimum, report, dealer)
    dealer.keep(rows)
    return rows


class _Tokens:
    """What one tokenizer makes of one user's documents, and where that is kept."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, digest: Digest, cache: Path, owner: str, loss: Loss, tell: Tell
    ) -> None:
        self.tell = tell
        self._tokenizer, self._cache, self._owner, self._loss = tokenizer, cache, owner, loss
        self._digest = _digest(digest, tokenizer.chat_template, loss)
        """Of all that ids and marks follow from."""
        self._made: dict[Digest, TokenDocument] = {}
        self._width = token_type(tokenizer).__name__

    def of(self, documents: Sequence[Document]) -> dict[Digest, TokenDocument]:
        """Of each document; only those that are not known yet are encoded."""
        if not self._made.keys() >= {document.id for document in documents}:
            known = token_cache.tokens_by_document(self._cache, self._owner, self._digest)
            self._made = _encoded(documents, self._tokenizer, known, self._loss, self.tell)
        return self._made

    def stored(self, documents: Sequence[Document], placed: Mapping[Digest, Split]) -> Stored:
        """The corpus in which documents are placed so: from the cache, or made and kept there.

        In memory if the disk of the cache refuses: it is a cache, and nothing that cannot be done without.
        """
        content = _digest(token_cache.FORMAT, self._digest, sorted(placed.items()))
        folder = self._cache / f"{self._owner}-{content[:32]}"
        stored = token_cache.load(folder)
        with contextlib.suppress(OSError):
            if stored is None:
                by_split = _by_split(documents, self.of(documents), placed)
                token_cache.write(folder, by_split, self._width, self._digest)
                stored = token_cache.load(folder)
            token_cache.prune(folder)
        return stored or token_cache.held(_by_split(documents, self.of(documents), placed), self._width, self._digest)


def _encoded(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerBase,
    known: Mapping[str, TokenDocument],
    loss: Loss,
    tell: Tell,
) -> dict[Digest, TokenDocument]:
    """The tokens of each document; only those not known yet are encoded."""
    fresh = [document for document in documents if document.id not in known]
    found = each(token_documents(fresh, tokenizer, loss), tell, ENCODING, len(fresh)) if fresh else ()
    made = {document.id: _or_nothing(one, tokenizer) for document, one in zip(fresh, found, strict=True)}
    return {d.id: made[d.id] if d.id in made else known[d.id] for d in documents}


def _or_nothing(made: TokenDocument | ChatRefusal, tokenizer: PreTrainedTokenizerBase) -> TokenDocument:
    """What is refused has a place in a split, for another model's template, and no token in it."""
    return TokenDocument(np.empty(0, token_type(tokenizer))) if isinstance(made, ChatRefusal) else made


def _by_split(
    documents: Sequence[Document], tokens: Mapping[Digest, TokenDocument], placed: Mapping[Digest, Split]
) -> dict[Split, list[tuple[Entry, TokenDocument]]]:
    """Documents by id inside each split, so that equal text gives equal files whatever its files are called."""
    by_split: dict[Split, list[tuple[Entry, TokenDocument]]] = {split: [] for split in SPLITS}
    for document in sorted(documents, key=lambda document: document.id):
        found = tokens[document.id]
        by_split[placed[document.id]].append((Entry(document.id, len(found.ids), document.source), found))
    return by_split


def require(tokens: Mapping[Split, int], minimum: Mapping[Split, int], report: ReadReport, dealer: Dealer) -> None:
    """Raises TooLittleText if a split has fewer tokens than its minimum."""
    lacking = [split for split in SPLITS if tokens[split] < minimum[split]]
    if not lacking:
        return
    there, needed = sum(tokens.values()), sum(minimum.values())
    each = ", ".join(f"{split} {tokens[split]:,} of {minimum[split]:,}" for split in SPLITS)
    found, *left_out = report.sentences()
    because = "".join(f"; {sentence}" for sentence in left_out)
    of = " that count (of conversations: those of answers)" if report.conversations and report.loss != "all" else ""
    raise TooLittleText(
        f"too little text: {there:,} tokens{of} in {found}; at least {needed:,} tokens are needed ({each}){because}",
        f"add text (about {4 * max(needed - there, minimum[lacking[0]]):,} more characters), in several documents or "
        f"as one long one; {NEVER_MOVED if dealer.rows else NEVER_DIVIDED}",
    )


@dataclass(frozen=True, slots=True)
class LooseText:
    """Text that is no peer's own corpus: every document in one split."""

    split: TokenSplit
    documents: tuple[Digest, ...]
    """Their ids, in the order of the split."""
    report: ReadReport


def read_loose(
    paths: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    encodings: Mapping[PurePath, str] = NO_NAMES,
    me: str = "",
    keep_secrets: bool = False,
    loss: Loss = "answers",
    spool: Path | None = None,
    tell: Tell = silent,
) -> LooseText:
    """All documents of files and folders, by id. Raises TextError. `spool` and `tell` as of `read_documents`."""
    documents, report = read_documents(
        paths, encodings=encodings, me=me, keep_secrets=keep_secrets, spool=spool, tell=tell
    )
    documents.sort(key=lambda document: document.id)
    found = each(token_documents(documents, tokenizer, loss), tell, ENCODING, len(documents))
    made = [_or_nothing(one, tokenizer) for one in found]
    refused = sum(not len(one.ids) for one, document in zip(made, documents, strict=True) if document.turns)
    report = replace(report, loss=loss, refused=refused)
    return LooseText(TokenSplit.of(made), tuple(document.id for document in documents), report)


def read_whole(
    paths: Sequence[Path],
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    encodings: Mapping[PurePath, str] = NO_NAMES,
    keep_secrets: bool = False,
) -> TokenSplit:
    """All documents as one split, for a public reference set. Raises TextError, or TooLittleText below one window."""
    found = read_loose(paths, tokenizer, encodings=encodings, keep_secrets=keep_secrets)
    if len(found.split.tokens) <= context:
        raise TooLittleText(
            f"too little reference text: {len(found.split.tokens):,} tokens in {found.report.sentences()[0]}",
            f"give more than {context:,} tokens",
        )
    return found.split


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


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
