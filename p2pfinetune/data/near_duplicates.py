"""Keep one of every group of nearly equal texts, so that what is held out is not also trained on. Deterministic.

A text is nearly equal to others where too large a part of its word sequences stands in longer texts that were kept.
All sequences are compared, by hash in one set; that takes no sampling and time linear in the text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

WORDS = 5  # in a sequence: shorter ones are shared by chance, longer ones miss slightly edited copies
MOST_SHARED = 0.3  # of a text's sequences: unrelated texts of one author share a twentieth, edited copies over half
WORD = re.compile(r"\w+")


def sequences(text: str) -> set[int]:
    """Hashes of all sequences of WORDS words, case and punctuation aside; of the whole where it is shorter."""
    words = WORD.findall(text.lower())
    count = max(1, len(words) - WORDS + 1)
    return {_hash(" ".join(words[i : i + WORDS])) for i in range(count)}


def _hash(words: str) -> int:
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big")


def representatives(texts: Sequence[str]) -> list[int]:
    """Positions of the texts to keep, ascending: none shares over MOST_SHARED of its sequences with longer kept ones.

    Longer texts are asked first, so that an excerpt goes and the text it stands in stays; of equals the first stays.
    """
    found = [sequences(text) for text in texts]
    seen: set[int] = set()
    kept = []
    for i in sorted(range(len(texts)), key=lambda i: -len(found[i])):
        if len(found[i] & seen) <= MOST_SHARED * len(found[i]):
            seen |= found[i]
            kept.append(i)
    return sorted(kept)
