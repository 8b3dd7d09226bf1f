"""What is fuzzed: a function of bytes that must hold its invariants whatever the bytes are.

A target raises nothing but the AssertionError of an invariant that does not hold; whatever else comes out of it is a
fault as well. What the contract of the code allows it to raise, the target catches by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

Mutator = Callable[[bytes, Random], bytes]
"""Other bytes of the same structure: lengths that still fit, a signature that still holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder, or one side of a protocol."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    """Real values, as bytes: where fuzzing begins."""
    max_bytes: int
    mutate: Mutator
    words: Sequence[bytes] = ()
    """Tokens of the format, for libFuzzer's dictionary and for the plain mutations."""
    peak_bytes: int = 1 << 20
    """What one run may allocate at most, beyond what the target itself makes: no input buys memory by a number in it."""
