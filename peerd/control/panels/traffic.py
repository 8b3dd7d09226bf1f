"""Panel: what left this device and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Drawing, Fact, Panel, Words
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPanel(Panel):
    """Bytes since the daemon started. What leaves this device are adapters and announcements, never your text."""

    title = "Traffic and refusals"
    order = 60

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Totals, the last round, refusals by reason."""
        last = rounds[-1] if rounds else None
        refusals = [
            Fact(label=f"refused: {reason}", value=count, unit="number", tone="warn")
            for reason, count in sorted(status.refused.items())
        ]
        return Words(
            facts=[
                Fact(label="received", value=status.traffic.bytes_in, unit="bytes"),
                Fact(label="sent", value=status.traffic.bytes_out, unit="bytes"),
                Fact(label="received, last round", value=last.bytes_in if last else None, unit="bytes"),
                Fact(label="sent, last round", value=last.bytes_out if last else None, unit="bytes"),
                *(refusals or [Fact(label="refused", value="nothing", unit="text")]),
            ]
        )
