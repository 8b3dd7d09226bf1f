"""What the core needs to know of the user's choices: fields of `peerd.config.Config` under the same names.

`msgspec.convert(config, Settings, from_attributes=True)` makes one; the core itself reads no configuration.
"""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Choices that steer rounds, fetching and dialling. Zero for `rounds` or `total_steps` means no end."""

    steps_per_round: int = 20
    warmup_rounds: int = 1
    rounds: int = 0
    total_steps: int = 0
    patience: int = 8
    collect_seconds: float = 30.0
    staleness_seconds: float = 3600.0
    max_neighbours: int = 16
    min_gain: float = 1e-3
    """Nats a token by which a guard loss must beat the best so far to count as progress: less is noise."""

    @property
    def max_connections(self) -> int:
        """Beyond this many, nobody else is dialled: twice the neighbourhood, so that better neighbours can be met."""
        return 2 * self.max_neighbours
