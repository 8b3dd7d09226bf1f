"""What became of every file: used, and how much of it; left out, and why. Values alone; nothing is read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from p2pfinetune.names import Digest, Loss

TEXT_FIELDS = ("text", "content", "body", "message", "sentence")  # the first one that holds a string is a row's text
NAMED_PATHS = 3  # so many examples of each reason stand in a report for people
UNKNOWN = "unknown encoding"  # why a file is left out that looks like text
HINTS = {UNKNOWN: "; name it: --encoding FOLDER=NAME"}
NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRead:
    """What became of one file, or of a folder that was left out whole."""

    path: str
    reason: str = ""
    """Why nothing of it is used, a short fixed phrase; empty if at least one document is."""
    documents: int = 0
    """That no earlier file gave."""
    conversations: int = 0
    """How many of these documents are conversations."""
    ids: tuple[Digest, ...] = ()
    """Of these documents, in their order."""
    characters: int = 0
    """Of these documents."""
    repeated: int = 0
    """Documents equal to an earlier one."""
    again: tuple[Digest, ...] = ()
    """Of those documents that stand in earlier files."""
    bad_rows: int = 0
    """Rows of a JSON file that are no JSON, or neither a conversation nor text."""
    encoding: str = ""
    """As Python calls it; empty if the file was not opened."""
    replaced: int = 0
    """Characters that stand for bytes which mean nothing in that encoding."""
    guesses: tuple[str, ...] = ()
    """Encodings that it may be in, the best first, where it was guessed: the first is taken, or it is left out."""
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    """Characters of it that are no text of a person's, by reason; see `machine_text`."""


@dataclass(frozen=True, slots=True)
class Copies:
    """What became of near copies: versions of one text, replies that quote, a text under two names."""

    together: int = 0
    """Documents that stay in the split of those that they are near copies of."""
    left_out: int = 0
    """Documents in no split, since they are near copies of documents in several."""


@dataclass(frozen=True, slots=True)
class ReadReport:
    """What was read and what was not, in the order in which it was found."""

    entries: tuple[FileRead, ...]
    copies: Copies = Copies()
    loss: Loss = "answers"
    """What is learnt of conversations."""
    refused: int = 0
    """Conversations that the model's chat template has no place for."""

    @property
    def files(self) -> int:
        """Files that gave at least one document."""
        return sum(not entry.reason for entry in self.entries)

    @property
    def documents(self) -> int:
        """Different ones."""
        return sum(entry.documents for entry in self.entries)

    @property
    def conversations(self) -> int:
        """How many of the documents are conversations."""
        return sum(entry.conversations for entry in self.entries)

    @property
    def characters(self) -> int:
        """Of all documents."""
        return sum(entry.characters for entry in self.entries)

    @property
    def skipped(self) -> Mapping[str, tuple[str, ...]]:
        """Paths by the reason why nothing of them is used."""
        found: dict[str, list[str]] = {}
        for entry in self.entries:
            if entry.reason:
                found.setdefault(entry.reason, []).append(entry.path)
        return MappingProxyType({reason: tuple(paths) for reason, paths in found.items()})

    @property
    def left_out(self) -> Mapping[str, int]:
        """Characters that are no text of a person's, by reason, in files used or not."""
        return _summed([entry.left_out for entry in self.entries])

    @property
    def encodings(self) -> Mapping[str, int]:
        """Files by encoding, of those that are used."""
        return _summed([{entry.encoding: 1} for entry in self.entries if entry.encoding and not entry.reason])

    @property
    def guessed(self) -> Counter[str]:
        """Files by encoding, of those that are used and whose encoding was guessed."""
        return Counter(entry.encoding for entry in self.entries if entry.guesses and not entry.reason)

    @property
    def repeated(self) -> int:
        """Documents equal to an earlier one."""
        return sum(entry.repeated for entry in self.entries)

    @property
    def bad_rows(self) -> int:
        """Rows of JSON files that are no JSON, or neither conversations nor text."""
        return sum(entry.bad_rows for entry in self.entries)

    @property
    def replaced(self) -> int:
        """Characters that stand for bytes without meaning, in files that are used."""
        return sum(entry.replaced for entry in self.entries if not entry.reason)

    def sentences(self) -> list[str]:
        """The report in plain words, a line each."""
        lines = [f"{_count(self.documents, 'document')} from {_count(self.files, 'file')}"]
        if self.conversations:
            learnt = "loss on answers" if self.loss == "answers" else "loss on all that is said"
            lines.append(f"{_count(self.conversations, 'conversation')} among them, {learnt}")
        if self.refused:
            refused = _count(self.refused, "conversation")
            lines.append(f"{refused} left out: the model's chat template has no place for them")
        for reason, paths in sorted(self.skipped.items()):
            rest = len(paths) - NAMED_PATHS
            named = ", ".join(paths[:NAMED_PATHS]) + (f" and {rest} more" if rest > 0 else "")
            lines.append(f"{_count(len(paths), 'path')} skipped ({reason}{HINTS.get(reason, '')}): {named}")
        if guessed := self.guessed:
            files = (
                "1 file is not Unicode, and its encoding was"
                if guessed.total() == 1
                else (f"{guessed.total():,} files are not Unicode, and their encodings were")
            )
            each = ", ".join(f"{encoding} ({count:,})" for encoding, count in sorted(guessed.items()))
            lines.append(f"{files} guessed: {each}; --encoding FOLDER=NAME overrules a guess")
        for reason, characters in sorted(self.left_out.items(), key=lambda item: -item[1]):
            lines.append(f"{_count(characters, 'character')} left out of files ({reason})")
        if self.repeated:
            lines.append(f"{_count(self.repeated, 'document')} skipped because an equal one was read before")
        if self.copies.together:
            kept = _count(self.copies.together, "document")
            lines.append(f"{kept} kept in one split with near copies, replies that quote or versions of the same text")
        if self.copies.left_out:
            lines.append(
                f"{_count(self.copies.left_out, 'document')} left out: near copies of others in several splits"
            )
        if self.bad_rows:
            lines.append(
                f"{_count(self.bad_rows, 'row')} skipped: no JSON, or neither a conversation nor one of the "
                f"fields {', '.join(TEXT_FIELDS)}"
            )
        return lines


def _summed(counts: list[Mapping[str, int]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return MappingProxyType(dict(total))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
