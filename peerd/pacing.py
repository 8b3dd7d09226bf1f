"""How fast, and how soon again: one back-off and one token bucket for the whole daemon. Values without a clock.

Back-off doubles with every failure in a row (Jacobson and Karels, 1988, for TCP's retransmission). What waits for the
own machine (worker, disk, tasks) needs no dice; peers that call on others do, so that they do not march in step: the
caller brings a number in [0, 1) and the pause is spread over half to one and a half of itself.

A token bucket lets so many pass at once and so many a second in the long run (RFC 2697 calls its parts burst and rate).
`Bucket` is the value, which the pure core keeps in its state; `TokenBucket` holds one for those who keep a clock, and
can also let something pass on credit and say how long to rest for it, which is how bytes are slowed down and not lost.
"""

from __future__ import annotations

import msgspec


class Backoff(msgspec.Struct, frozen=True):
    """Seconds between a failure and the next attempt: doubled with every failure in a row, `longest` at most."""

    first: float = 1.0
    longest: float = 60.0

    def after(self, failures: int, spread: float | None = None) -> float:
        """The pause after so many failures in a row, at least one; `spread` in [0, 1) makes it 0.5 to 1.5 of itself.

        A spread pause is capped before it is spread, so it also keeps below `longest`.
        """
        doubled = self.first * 2.0 ** min(failures - 1, 30)
        if spread is None:
            return min(self.longest, doubled)
        return min(self.longest / 1.5, doubled) * (0.5 + spread)


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """`level` tokens are left at the time `filled_at`; fewer than none if something passed on credit."""

    level: float
    filled_at: float

    def take(
        self, at: float, burst: float, per_second: float, tokens: float = 1.0, *, leaving: float = 0.0
    ) -> Bucket | None:
        """The bucket after so many tokens were taken, None if fewer would be left than are left for others."""
        level = self.holds(at, burst, per_second)
        if level < tokens + leaving:
            return None
        return Bucket(level=level - tokens, filled_at=at)

    def holds(self, at: float, burst: float, per_second: float) -> float:
        """Tokens at that time. A clock that was set back takes nothing away, and gives nothing."""
        return min(burst, self.level + max(0.0, at - self.filled_at) * per_second)


class TokenBucket:
    """A bucket that is full at first and changes in place: `rate` a second, `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._bucket = Bucket(level=burst, filled_at=0.0)

    def take(self, now: float) -> bool:
        """Whether one more may pass at `now`, in seconds."""
        taken = self._bucket.take(now, self.burst, self.rate)
        self._bucket = taken or Bucket(level=self._bucket.holds(now, self.burst, self.rate), filled_at=now)
        return taken is not None

    def pause(self, now: float, amount: float = 1.0) -> float:
        """Let `amount` pass; for how many seconds the one who brought it should rest."""
        left = self._bucket.holds(now, self.burst, self.rate) - amount
        self._bucket = Bucket(level=left, filled_at=now)
        return max(0.0, -left) / self.rate

    def give_back(self, amount: float = 1.0) -> None:
        """So much is not counted after all."""
        self._bucket = msgspec.structs.replace(self._bucket, level=min(self.burst, self._bucket.level + amount))
