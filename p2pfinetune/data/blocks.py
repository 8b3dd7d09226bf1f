"""Cut a long text into contiguous blocks at places that the text itself chooses.

Each block becomes a document of its own and goes to a split by its hash, so an edit in one place must not move the
borders in another. A border is therefore a possible border (end of a paragraph, else of a line, else of a sentence)
whose key is the smallest among all those within HORIZON characters on either side: local-maximum chunking (Bjoerner,
Blass and Gurevich, "Content-dependent chunking for differential compression: the local maximum approach", 2010).
Whether a place is a border thus depends on HORIZON characters to either side and on nothing else.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LONG = 4096  # characters; a text up to here stays whole
HORIZON = 1000  # characters: the shortest block; the mean is a little above twice as long, some eight hundred tokens
LONGEST = 8192  # characters; a block without a single border inside is cut at spaces, and without those anywhere
FINGERPRINT = 64  # characters before a possible border that make its key

# a paragraph's end, a line's end, a sentence's end: the earlier in this list, the better the border
BORDERS = re.compile(
    r"(?P<paragraph>\n[ \t]*\n\s*+(?=\S))|(?P<line>\n(?=\S|[ \t]))|(?P<sentence>[.!?][ \t]+(?=\S)|[\u3002\uff01\uff1f])"
)
RANKS = {"paragraph": 0, "line": 1, "sentence": 2, "space": 3}
SPACES = re.compile(r"(?P<space>\s+)")


class Border(NamedTuple):  # made for every line of a text: as a frozen dataclass it takes twice as long
    """A place where a text may be cut; `key` is (rank, hash of the text just before it), and the smaller wins."""

    position: int
    key: tuple[int, int]


def cut(text: str) -> list[str]:
    """The blocks of a text, none of them blank; together they hold every character but white space at the borders."""
    if len(text) <= LONG:
        return [text] if text.strip() else []
    pieces = []
    for block in _split(text, BORDERS):
        if len(block) <= LONGEST:
            pieces.append(block)
        else:
            pieces.extend(part for piece in _split(block, SPACES) for part in _force(piece))
    return [tidy for piece in pieces if (tidy := _tidy(piece))]


def _tidy(piece: str) -> str:
    """Without blank lines at either end; the indentation of the first line stays, since code needs it."""
    return re.sub(r"\A(?:[ \t]*\n)+", "", piece).rstrip()


def _split(text: str, pattern: re.Pattern[str]) -> list[str]:
    cuts = [border.position for border in _chosen(list(_possible(text, pattern)), len(text))]
    return [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _possible(text: str, pattern: re.Pattern[str]) -> Iterator[Border]:
    for match in pattern.finditer(text, 0, len(text.rstrip())):  # so that something follows every white space
        before = text[max(0, match.start() - FINGERPRINT) : match.start() + 1]
        line_start = match.group().rfind("\n") + 1  # the next line keeps its indentation
        position = match.start() + line_start if line_start else match.end()
        yield Border(position, (RANKS[match.lastgroup or "space"], zlib.crc32(before.encode())))


def _chosen(borders: Sequence[Border], length: int) -> Iterator[Border]:
    """Those at least HORIZON from both ends and smaller than all within HORIZON; of equal ones the first."""
    window: deque[Border] = (
        deque()
    )  # keys rise from left to right: the smallest of the last HORIZON characters is first
    ahead = 0
    for border in borders:
        while ahead < len(borders) and borders[ahead].position < border.position + HORIZON:
            while window and window[-1].key > borders[ahead].key:
                window.pop()
            window.append(borders[ahead])
            ahead += 1
        while window[0].position <= border.position - HORIZON:
            window.popleft()
        if window[0] is border and HORIZON <= border.position <= length - HORIZON:
            yield border


def _force(piece: str) -> list[str]:
    return [piece[begin : begin + LONGEST] for begin in range(0, len(piece), LONGEST)]
