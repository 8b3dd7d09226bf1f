"""What a format gives: texts, where each of them stood, and what of the file was left out. Values alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfinetune.data.report import NOTHING

EXTRA = "needs: pip install 'peerd[documents]'"  # why a file is not read whose library is not installed


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text in a file. `place` follows the file's name if people are told of it: ":17", ":chapter 3"."""

    text: str
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTexts:
    """The texts of one file. `left_out` counts characters of it that are nobody's text, or not this person's."""

    parts: tuple[TextPart, ...] = ()
    reason: str = ""
    """Why there are none, a short fixed phrase."""
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    encoding: str = ""
    replaced: int = 0


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file inside an archive, by its name there; it is never written to a disk."""

    name: str
    data: bytes
    reason: str = ""
    """Why it is not read; `data` is empty then."""
    size_bytes: int = 0
    """Of what is not read."""


class FormatError(Exception):
    """A file is not what its name says, or more than is read: the message is a short fixed phrase for the report."""


def opened(text: str, left_out: Mapping[str, int] | None = None) -> FileTexts:
    """A file with one text, and what of it was left out."""
    return FileTexts(parts=(TextPart(text),), left_out=without_zeros(left_out or {}))


def without_zeros(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Reasons under which something was left out."""
    return {reason: count for reason, count in counts.items() if count > 0}


def summed(*counts: Mapping[str, int]) -> Mapping[str, int]:
    """Of several counts one."""
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return without_zeros(total)
