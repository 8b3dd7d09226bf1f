"""Text out of tokens as they come: whole characters only, and nothing that may turn out to begin a stop string. Pure.

Tokens of one character may be several, and some tokenizers drop the space in front of what they decode first. So each
token is decoded together with some before it, and what these alone give is taken off; a text that ends in U+FFFD may be
the beginning of a character and is held back until it is one, or can be none any more.

    tokens --decoded with a few before--> characters --held back while a stop string may begin--> given out
"""

from __future__ import annotations

from typing import Any

from p2pfinetune.speech import Chance, Piece

WINDOW = 6  # tokens of the prompt that the first one is decoded with
LONGEST_CHARACTER = 4  # bytes of UTF-8, and tokens if each is a byte
UNFINISHED = "\ufffd"


class Unfolding:
    """Of one answer."""

    def __init__(self, tokenizer: Any, prompt_ids: list[int], stop: tuple[str, ...] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(word for word in stop if word)
        self._ids = list(prompt_ids[-WINDOW:])
        self._begin, self._read = 0, len(self._ids)
        self._held = ""
        self._total = self._given = 0  # characters that were decoded, and that were given out
        self._unplaced: list[Chance] = []  # of tokens whose characters are not whole yet
        self._placed: list[tuple[int, Chance]] = []  # with the place where their text ends
        self.stopped = False
        """A stop string has come."""

    def add(self, token: int, chance: Chance | None = None) -> Piece | None:
        """What can be given out now; None if nothing can."""
        if chance is not None:
            self._unplaced.append(chance)
        self._ids.append(token)
        self._held += self._decoded()
        found = [place for word in self._stop if (place := self._held.find(word)) >= 0]
        if found:
            self.stopped = True
            self._held = self._held[: min(found)]
            return self._give(len(self._held))
        return self._give(len(self._held) - self._may_begin())

    def rest(self) -> Piece | None:
        """What was held back, once no token follows."""
        if not self.stopped:
            self._held += self._decoded(at_the_end=True)
        return self._give(len(self._held))

    def spelt(self, token: int) -> str:
        """One token as it would be read at this place."""
        before = self._ids[-1:]
        return _behind(self._whole(before), self._whole([*before, token])) or self._whole([token])

    def _decoded(self, *, at_the_end: bool = False) -> str:
        before, now = self._text(self._ids[self._begin : self._read]), self._text(self._ids[self._begin :])
        fresh = _behind(before, now)
        waits = now.endswith(UNFINISHED) and len(self._ids) - self._read < LONGEST_CHARACTER
        if (waits and not at_the_end) or self._read == len(self._ids):
            return ""
        if fresh is None:
            fresh = self._text(self._ids[self._read :])
        self._begin, self._read = self._read, len(self._ids)
        self._total += len(fresh)
        self._placed += [(self._total, chance) for chance in self._unplaced]
        self._unplaced.clear()
        return fresh

    def _may_begin(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        most = min(len(self._held), max(map(len, self._stop), default=1) - 1)
        return next((n for n in range(most, 0, -1) if any(s.startswith(self._held[-n:]) for s in self._stop)), 0)

    def _give(self, characters: int) -> Piece | None:
        text, self._held = self._held[:characters], self._held[characters:]
        self._given += len(text)
        told = [chance for end, chance in self._placed if end <= self._given]
        del self._placed[: len(told)]
        return Piece(text=text, chances=tuple(told)) if text or told else None

    def _text(self, ids: list[int]) -> str:
        found: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return found

    def _whole(self, ids: list[int]) -> str:
        found: str = self._tokenizer.decode(ids)
        return found


def _behind(before: str, now: str) -> str | None:
    """None if what was there has changed with what came."""
    return now[len(before) :] if now.startswith(before) else None
