"""What the core needs to know of the user's choices; `sections.of(Settings, config)` makes one.

The core itself reads no configuration.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from p2pfinetune.options import HorizonOptions
from peerd.config import FirstOptions, RoundOptions


class Settings(RoundOptions, HorizonOptions, FirstOptions):
    """Choices that steer rounds, fetching and dialling. Zero for `rounds` or `total_steps` means no end."""

    min_gain: Annotated[
        float,
        Meta(
            description="Nats a token by which a guard loss must beat the best so far to count as progress: less is "
            "noise."
        ),
    ] = 1e-3

    @property
    def max_connections(self) -> int:
        """Beyond this many, nobody else is dialled: twice the neighbourhood, so that better neighbours can be met."""
        return 2 * self.max_neighbours
