"""A token bucket as a value: so many at once, so many a second in the long run."""

from __future__ import annotations

import msgspec


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """`level` tokens are left at the time `filled_at`."""

    level: float
    filled_at: float

    def take(
        self, at: float, burst: float, per_second: float, tokens: float = 1.0, *, leaving: float = 0.0
    ) -> Bucket | None:
        """The bucket after so many tokens were taken, None where fewer would be left than are left for others."""
        level = self.holds(at, burst, per_second)
        if level < tokens + leaving:
            return None
        return Bucket(level=level - tokens, filled_at=at)

    def holds(self, at: float, burst: float, per_second: float) -> float:
        """Tokens at that time."""
        return min(burst, self.level + max(0.0, at - self.filled_at) * per_second)
