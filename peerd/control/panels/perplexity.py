"""Panel: perplexity curves of the models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfinetune.scoring.perplexity import perplexity
from peerd.control import figures
from peerd.control.panels._base import Drawing, Line, Panel, Series
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityPanel(Panel):
    """How well each model predicts your own held-out text (guard split); lower is better.

    Base: no adapter. Own: after my training of the round. Personal: after mixing in trusted peers. Alone: a twin that
    never mixes, if one trains (--twin).
    """

    title = "Perplexity on my own text"
    order = 10

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """One line a model; the twin only if there is one."""
        lines = [
            Line(label="base", key="base", points=[(r.round, perplexity(r.guard_base)) for r in rounds]),
            Line(label="own", key="own", points=[(r.round, perplexity(r.guard_own)) for r in rounds]),
            Line(label="twin", key="twin", points=[(r.round, perplexity(r.guard_twin)) for r in rounds]),
            Line(
                label="personal",
                key="personal",
                points=[(r.round, perplexity(r.guard_personal)) for r in rounds],
                mine=True,
            ),
        ]
        return Series(
            lines=[line for line in lines if any(y is not None for _, y in line.points)],
            x_label="round",
            y_label="perplexity",
            unit="perplexity",
            empty="No round has ended yet.",
            sentences=[said] if (said := _said(status)) else [],
        )


def _said(status: Status) -> str:
    found = status.held_out.guard
    return figures.sentence(found) if found is not None else ""
