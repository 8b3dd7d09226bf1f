"""Random signs for the entries of an adapter, as a function of (seed, step, sample, factor, place): nothing else.

The bits are those of Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): ten rounds of
multiplications and exclusive ors of 32-bit words, a bijection of a counter of four words under a key of two. It passes
every known battery of tests, can be asked for any place at once, and is integer arithmetic that no processor, compiler
or version of a library does otherwise. Philox was published with known answers, which a test repeats.

    key       low and high word of the seed
    counter   (block of 128 entries, factor, step, sample)
    entry     bit i of a block belongs to its i-th entry, words and bits from the low end; 1 is +1, 0 is -1

Signs instead of the paper's normal numbers: all that MeZO asks of z is that the mean of z z^T is the identity, so that
the mean of (slope x z) is the gradient, and signs have that property exactly. Of all distributions with it they have
the smallest fourth moment, hence the least noisy estimate (Spall 1992 takes them), and every entry is moved equally
far. A normal number takes a logarithm and a cosine, whose last bits differ from one mathematical library to the next.

The number of a factor is the first word of the SHA-256 of its name, so that who knows a part of the factors alone, as
receivers do of those that are shared, numbers them alike. Entries of A go row by row, those of B column by column: a
device that holds fewer components of each target then has the first entries of every factor, with the same signs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
Words = NDArray[np.uint64]

BLOCK = 128  # entries that one counter gives signs to
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
KEY_STEPS = 0x9E3779B9, 0xBB67AE85
LOW = np.uint64(0xFFFFFFFF)
WORD = np.uint64(32)  # bits


class Signs:
    """Of the entries of some factors: (rank, in) and (out, rank) by name, as the factors of an adapter are."""

    def __init__(self, schema: Mapping[str, tuple[int, ...]]) -> None:
        self._schema = dict(schema)
        self.sizes = [math.prod(shape) for shape in self._schema.values()]

    @cached_property
    def _counters(self) -> tuple[Words, Words]:
        """The block and the factor of every counter."""
        blocks, factors = [], []
        for name, size in zip(self._schema, self.sizes, strict=True):
            needed = -(-size // BLOCK)
            blocks.append(np.arange(needed, dtype=np.uint64))
            factors.append(np.full(needed, number_of(name), np.uint64))
        return np.concatenate(blocks), np.concatenate(factors)

    def bits(self, seed: int, step: int, sample: int) -> Bits:
        """(p,) 1 for plus, 0 for minus: factors in the order of the schema, B as its transpose."""
        blocks, factors = self._counters
        alike = [np.full_like(blocks, number & 0xFFFFFFFF) for number in (step, sample)]
        words = philox((blocks, factors, alike[0], alike[1]), (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
        drawn = np.unpackbits(np.stack(words, axis=1).astype("<u4").view(np.uint8), bitorder="little")
        parts, place = [], 0
        for size in self.sizes:
            parts.append(drawn[place : place + size])
            place += -(-size // BLOCK) * BLOCK
        return np.concatenate(parts)


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox-4x32-10 of many counters at once; all words are below 2^32, in 64 bits so that products are whole."""
    a, b, c, d = counter
    low, high = key
    for _ in range(ROUNDS):
        first, second = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (
            second >> WORD ^ b ^ np.uint64(low),
            second & LOW,
            first >> WORD ^ d ^ np.uint64(high),
            first & LOW,
        )
        low, high = low + KEY_STEPS[0] & 0xFFFFFFFF, high + KEY_STEPS[1] & 0xFFFFFFFF
    return a, b, c, d


def number_of(name: str) -> int:
    """Of a factor: 32 bits of its name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
