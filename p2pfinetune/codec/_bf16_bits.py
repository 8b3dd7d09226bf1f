"""Scales as bf16: two bytes each, rounded as every processor rounds them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_BITS = 0x7F7F
LARGEST = float(np.array([LARGEST_BITS << 16], "<u4").view("<f4")[0])


def bits_of(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Of non-negative numbers: to the nearest bf16, ties to even; what is beyond the largest becomes that."""
    whole = np.minimum(values, LARGEST).astype("<f4").view("<u4")
    rounded: NDArray[np.uint16] = ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def are_scales(bits: NDArray[np.uint16]) -> bool:
    """Whether all of them are finite and none is below zero."""
    return bool((bits <= LARGEST_BITS).all())


def values_of(bits: NDArray[np.uint16]) -> NDArray[np.float64]:
    """What the bits of finite numbers say."""
    return (bits.astype("<u4") << 16).view("<f4").astype(np.float64)


def above(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The next larger bf16 of each, at most the largest."""
    return values_of(np.minimum(bits_of(values) + 1, LARGEST_BITS).astype("<u2"))
