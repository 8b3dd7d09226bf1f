"""Lots: numbers in [0, 1) that look random, and are the same for the same words under the same key.

The core takes no dice, so whatever it leaves to chance (which strangers are tried, who is asked for a blob, how long a
pause is) falls from words: the peer's id, the round, the attempt. Peer ids cost nothing: under a function that anybody
can work out, a crowd would choose ids whose lots win, whatever its mixing. So each lot is keyed BLAKE2b (RFC 7693,
section 2.9), and the key is a secret of this node: `Node.lots`. Without the key a chosen id wins as often as any other.

The shell gives the secret once, the same in every run of a home, so that a restart draws no new partial view. A
simulation gives none: then the key comes from the node's own id, and everything falls the same each time.
"""

from __future__ import annotations

import hashlib
from typing import Self


def key_of(secret: str) -> bytes:
    """32 bytes for `roll`. What was told apart by the secret stays apart; the secret is not kept in the state."""
    return hashlib.blake2b(secret.encode(), digest_size=32, person=b"peerd lots").digest()


class Drawn(bytes):
    """A key that writes down every lot drawn from it; without the key, one that knows only what was written down.

    So what a node drew can be passed on and run again (`peerd.testing.replay`), and the key stays where it is.
    """

    answers: dict[str, float]

    def __new__(cls, answers: dict[str, float], key: bytes = b"") -> Self:
        """`answers`: by the words, as `roll` joins them."""
        made = super().__new__(cls, key)
        made.answers = answers
        return made

    def lot(self, message: str) -> float:
        """Raises KeyError for one that was never drawn, if there is no key."""
        if message not in self.answers and self:
            self.answers[message] = _lot(bytes(self), message)
        return self.answers[message]


def roll(key: bytes, *words: str | int) -> float:
    """A number in [0, 1) of 53 bits. `key`: at most 64 bytes. The first word says what the lot is for."""
    message = "\0".join(map(str, words))
    return key.lot(message) if isinstance(key, Drawn) else _lot(key, message)


def _lot(key: bytes, message: str) -> float:
    digest = hashlib.blake2b(message.encode(), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
