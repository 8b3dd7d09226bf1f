"""Panel: what the daemon is doing, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Drawing, Fact, Panel, Words
from peerd.control.render import printable
from peerd.control.words import advice, headline, served, verdict
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePanel(Panel):
    """What the daemon is doing now and what, if anything, you should do."""

    title = "Now"
    order = 0
    width = "full"

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """The headline, whether the model gets better, what to type, and what else should be known."""
        connected = sum(neighbour.connected for neighbour in status.neighbours)
        said = (verdict(status), served(status), status.held_out.contradiction, *advice(status), *status.notices)
        sentences = [sentence for sentence in said if sentence]
        if status.before:
            sentences.append(f"The run before this one did not end in order: {printable(status.before)}")
        return Words(
            headline=headline(status),
            tone="bad" if not status.health.ok else "good" if connected else "warn",
            sentences=sentences,
            facts=[
                Fact(label="round", value=status.round, unit="number"),
                Fact(label="personal perplexity", value=status.perplexity.personal, unit="perplexity"),
                Fact(label="peers connected", value=connected, unit="number"),
                Fact(label="running for", value=status.uptime_seconds, unit="seconds"),
            ],
        )
