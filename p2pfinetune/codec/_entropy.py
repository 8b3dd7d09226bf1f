"""Whole numbers of which small ones are frequent, in about as many bits as they tell: an entropy coder of our own.

The coder is rANS (Duda 2013, arXiv 1311.2540) with 32 bits of state, words of 16 and `LANES` side by side, so that
numpy does a symbol of every lane at once (Giesen 2014, arXiv 1402.3392). All of it is integer arithmetic on constants
that stand here; so the same numbers are the same bytes on every processor and with every version of every library,
which a general compressor would not promise.

A number from -127 to 127 is coded by one of `TABLES`: two-sided geometric distributions, as rounding makes of
Laplace's, each half an octave wider than the one before, and a flat one, in which any number takes eight bits. Which
table is the reader's to know: one for each group of numbers, coded before them by the same coder.

Reading stops at nothing and believes nothing: every slot of every table is a number, so any bytes are numbers, and only
a stream that ends with each lane at its start and no word left over was written here.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LARGEST: Final = 127
SIZE: Final = 2 * LARGEST + 1
SCALE_BITS: Final = 16
WHOLE: Final = 1 << SCALE_BITS
START: Final = 1 << 16  # the least state between symbols, and the one with which a lane begins
PER_LANE: Final = 2048  # symbols: a lane costs four bytes
# the root of the ratio of one magnitude to the one before, in 65536ths: exp(-1 / 2s) of scales s = 2^-3 ... 2^6.5
ROOTS: Final = (1200, 3874, 8869, 15933, 24109, 32314, 39750, 46019, 51039, 54917, 57835, 59992, 61565, 62703, 63520,
                64104, 64520, 64816, 65026, 65175)  # fmt: skip
TABLES: Final = len(ROOTS) + 1

Numbers = NDArray[np.int64]


@cache
def _frequencies() -> NDArray[np.uint64]:
    """(TABLES, SIZE), each row summing to WHOLE, none zero."""
    rows = []
    for root in ROOTS:
        # a normalised Laplace density over [k - 1/2, k + 1/2]: 2 / (root (1 + root)) to 1, then root^2 a step
        weights = [2 * WHOLE**3 // (root * (WHOLE + root))]
        weight = WHOLE
        for _ in range(LARGEST):
            weights.append(weight)
            weight = weight * root * root // WHOLE**2
        total = weights[0] + 2 * sum(weights[1:])
        spare = WHOLE - SIZE
        found = [1 + spare * weight // total for weight in weights]
        found[0] += WHOLE - found[0] - 2 * sum(found[1:])
        rows.append([*reversed(found[1:]), *found])
    flat = [WHOLE // SIZE] * SIZE
    flat[LARGEST] += WHOLE - sum(flat)
    return np.array([*rows, flat], np.uint64)


@cache
def _starts() -> NDArray[np.uint64]:
    """(TABLES, SIZE): where the slots of each number begin."""
    return np.cumsum(_frequencies(), axis=1, dtype=np.uint64) - _frequencies()


@cache
def _slots() -> NDArray[np.uint8]:
    """(TABLES, WHOLE): the number of each slot, plus LARGEST."""
    return np.stack([np.repeat(np.arange(SIZE, dtype=np.uint8), row.astype(np.int64)) for row in _frequencies()])


@cache
def costs() -> NDArray[np.int64]:
    """(TABLES, LARGEST + 1): what each magnitude takes, in 256ths of a bit."""
    one_sided = _frequencies()[:, LARGEST:].tolist()
    return np.array([[round(256 * (SCALE_BITS - math.log2(f))) for f in row] for row in one_sided], np.int64)


def lanes(count: int) -> int:
    """How many coders share `count` symbols."""
    return -(-count // PER_LANE)


def coded(numbers: Numbers, tables: Numbers) -> bytes:
    """`numbers` (count,) within LARGEST, each by its table (count,): the lanes' states, then words."""
    width = lanes(len(numbers))
    if not width:
        return b""
    rows, mask = _in_rows(len(numbers), width)
    places = np.zeros(rows * width, np.int64)
    kinds = np.zeros(rows * width, np.int64)
    places[: len(numbers)] = numbers + LARGEST
    kinds[: len(numbers)] = tables
    frequency = np.where(mask, _frequencies()[kinds, places].reshape(rows, width), np.uint64(WHOLE))
    start = np.where(mask, _starts()[kinds, places].reshape(rows, width), np.uint64(0))
    state = np.full(width, START, np.uint64)
    words: list[NDArray[Any]] = []
    for f, c in zip(frequency[::-1], start[::-1], strict=True):
        full = state >= (f << np.uint64(16))  # a symbol that is sure (the filling) changes nothing
        if full.any():
            words.append((state[full] & np.uint64(0xFFFF)).astype("<u2"))
            state[full] >>= np.uint64(16)
        state = ((state // f) << np.uint64(SCALE_BITS)) + state % f + c
    return state.astype("<u4").tobytes() + b"".join(word.tobytes() for word in reversed(words))


def longest(count: int) -> int:
    """Bytes of no stream of so many symbols that are each coded by the best table of its group; a bound, not close."""
    return 4 * lanes(count) + -(-count * 17 // 16)


def decoded(data: bytes, count: int, tables: Numbers) -> tuple[Numbers, int] | None:
    """The numbers, and how many bytes they took; None if they are not in `data`."""
    width = lanes(count)
    if len(data) < 4 * width:
        return None
    state = np.frombuffer(data, "<u4", width).astype(np.uint64)
    words = np.frombuffer(data, "<u2", (len(data) - 4 * width) // 2, 4 * width).astype(np.uint64)
    rows, mask = _in_rows(count, width)
    kinds = np.zeros(rows * width, np.int64)
    kinds[:count] = tables
    by_row = kinds.reshape(rows, width)
    found = np.zeros((rows, width), np.int64)
    taken = 0
    for row in range(rows):
        live, kind = mask[row], by_row[row]
        slot = (state & np.uint64(WHOLE - 1)).astype(np.int64)
        place = _slots()[kind, slot].astype(np.int64)
        after = _frequencies()[kind, place] * (state >> np.uint64(SCALE_BITS)) + slot.astype(np.uint64)
        state = np.where(live, after - _starts()[kind, place], state)
        found[row] = place
        low = np.flatnonzero(live & (state < START))
        if len(low):
            if taken + len(low) > len(words):
                return None
            state[low] = (state[low] << np.uint64(16)) | words[taken : taken + len(low)]
            taken += len(low)
    if (state != START).any():
        return None
    return found.reshape(-1)[:count] - LARGEST, 4 * width + 2 * taken


def _in_rows(count: int, width: int) -> tuple[int, NDArray[np.bool_]]:
    """Rows of `width` symbols, and which places of them are filled."""
    rows = -(-count // width) if width else 0
    return rows, (np.arange(rows * width) < count).reshape(rows, width)
