"""Spreading without randomness: a number in [0, 1) that looks random and is the same for the same words."""

from __future__ import annotations

OFFSET = 0xCBF29CE484222325  # FNV-1a, 64 bits
PRIME = 0x100000001B3
MASK = 0xFFFFFFFFFFFFFFFF


def roll(*words: str | int) -> float:
    """FNV-1a over the words with a final mix (the tail of MurmurHash3, since FNV alone leaves the high bits alike)."""
    state = OFFSET
    for byte in "\0".join(map(str, words)).encode():
        state = ((state ^ byte) * PRIME) & MASK
    state ^= state >> 33
    state = (state * 0xFF51AFD7ED558CCD) & MASK
    state ^= state >> 33
    return (state >> 11) / 2**53
