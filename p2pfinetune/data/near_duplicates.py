"""Which texts are nearly equal, by the sequences of words that they share; and one of every group of such texts.

A text is nearly equal to others if too large a part of its word sequences stands in them: Broder's containment of
w-shingles (1997, "On the resemblance and containment of documents"), asked of one text against another. Containment and
not resemblance: an excerpt shares little of a book, and the book all of the excerpt. Texts that are here are compared
by all their sequences; of texts that are gone a sketch remains (`dealt`).

Sequences are numbers: each word is hashed once, and a sequence is a polynomial of its words' hashes, taken as a
difference of two prefix sums (Karp and Rabin's rolling hash, over an array), so that a text costs a few passes over an
array and no call for each sequence. Two different sequences have one number with probability of about 2^-64. Scripts
that put no spaces between words are taken character by character, in sequences about as long as five of their words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Sequences = NDArray[np.uint64]
"""Of one text: sorted, each once."""

WORDS = 5  # in a sequence: shorter ones are shared by chance, longer ones miss slightly edited copies
IDEOGRAPHS = 8  # a Chinese or Japanese word has a character and a half
LETTERS = 20  # a Thai, Lao, Khmer or Burmese word has about four
MOST_SHARED = 0.3  # of a text's sequences: unrelated texts of one author share a twentieth, edited copies over half

_IDEOGRAPH = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTER = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
UNSPACED = re.compile(f"[{_IDEOGRAPH}{_LETTER}]")
LETTER = re.compile(f"[{_LETTER}]")
UNIT = re.compile(rf"[{_IDEOGRAPH}{_LETTER}]|[^\W{_IDEOGRAPH}{_LETTER}]+")

BASE = 0x9E3779B97F4A7C15  # of the polynomial: odd, so that it has an inverse modulo 2**64
MOST_WORDS = 1 << 20  # whose hashes are remembered: a language has fewer, and random letters no end


class _Hashes(dict[str, int]):
    """64 bits for each word, worked out once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MOST_WORDS:
            self.clear()
        found = self[word] = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        return found


_hashes = _Hashes()


def sequences(text: str) -> Sequences:
    """Of all its sequences of words, case and punctuation aside; of the whole if it is shorter than one."""
    units: list[str] = UNIT.findall(text.lower())
    hashes = np.fromiter(map(_hashes.__getitem__, units), np.uint64, len(units))
    begins = np.arange(len(units))
    ends = begins + (WORDS if text.isascii() or not UNSPACED.search(text) else _widths(units))
    fits = ends <= len(units)
    if not fits.any():
        begins, ends = np.zeros(1, np.int64), np.full(1, len(units))
    else:
        begins, ends = begins[fits], ends[fits]
    found: Sequences = np.unique(_mixed(_polynomials(hashes, begins, ends)))
    return found


def _widths(units: Sequence[str]) -> NDArray[np.int64]:
    """How many units the sequence that begins with each has."""
    return np.fromiter((_width(unit) for unit in units), np.int64, len(units))


def _width(unit: str) -> int:
    if not UNSPACED.search(unit):
        return WORDS
    return LETTERS if LETTER.search(unit) else IDEOGRAPHS


def _polynomials(hashes: Sequences, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> Sequences:
    """sum(hashes[i] * BASE**(begin - i)) over each range, modulo 2**64."""
    powers = _powers(pow(BASE, -1, 1 << 64), len(hashes))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes * powers, dtype=np.uint64)])
    found: Sequences = (sums[ends] - sums[begins]) * _powers(BASE, len(hashes) + 1)[begins]
    return found


def _powers(base: int, count: int) -> Sequences:
    """base**0, base**1, ... modulo 2**64."""
    return _some_powers(base, 1 << count.bit_length())[:count]


@cache
def _some_powers(base: int, count: int) -> Sequences:
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


def _mixed(numbers: Sequences) -> Sequences:
    """Every bit depends on every other: the finaliser of splitmix64 (Steele, Lea and Flood, 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def representatives(texts: Sequence[str]) -> list[int]:
    """Positions of the texts to keep, ascending: none shares over MOST_SHARED of its sequences with longer kept ones.

    Longer texts are asked first, so that an excerpt goes and the text it stands in stays; of equals the first stays.
    """
    found = [sequences(text) for text in texts]
    seen: set[int] = set()
    kept = []
    for i in sorted(range(len(texts)), key=lambda i: -len(found[i])):
        mine = set(found[i].tolist())
        if len(mine & seen) <= MOST_SHARED * len(mine):
            seen |= mine
            kept.append(i)
    return sorted(kept)
