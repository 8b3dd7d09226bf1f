"""What charset-normalizer takes bytes for: shown beside our own guesses where a file stays open, and never decisive.

Measured, it is right about half the lines of text in old encodings, and where `guess` is in doubt its agreement says
nothing (docs/adr/0020). But it knows other encodings and languages than we do, and names what somebody may try.
"""

from __future__ import annotations

import codecs

from p2pfinetune.data.guess import sample_of

MOST_BYTES = 4096  # takes some ten milliseconds


def second_opinion(data: bytes) -> str:
    """The name of a Python codec; empty if it knows none."""
    from charset_normalizer import from_bytes

    best = from_bytes(sample_of(data)[:MOST_BYTES]).best()
    return codecs.lookup(best.encoding).name if best is not None else ""
