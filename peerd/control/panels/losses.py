"""Panel: loss curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control import figures
from peerd.control.panels._base import Drawing, Line, Mark, Panel, Series
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class LossesPanel(Panel):
    """Mean loss in nats a token after each round, on three parts of your text.

    Training falling while the guard split rises means too little text. A dot on the axis is a round whose merge the
    guard refused, so that the own adapter stayed.
    """

    title = "Loss"
    order = 20

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """One line a split."""
        return Series(
            lines=[
                Line(label="training", key="train", points=[(r.round, r.loss_train) for r in rounds]),
                Line(label="trust split", key="trust", points=[(r.round, r.loss_trust) for r in rounds]),
                Line(
                    label="guard split", key="personal", points=[(r.round, r.guard_personal) for r in rounds], mine=True
                ),
            ],
            x_label="round",
            y_label="nats a token",
            unit="loss",
            empty="No round has ended yet.",
            sentences=_rest_on(status),
            marks=[Mark(x=r.round, label=f"merge refused: {r.reason}") for r in rounds if not r.accepted and r.reason],
        )


def _rest_on(status: Status) -> list[str]:
    now = status.held_out
    known = [(name, found) for name, found in (("trust", now.trust), ("guard", now.guard)) if found is not None]
    told = "; ".join(f"{name} split: {figures.rests_on(found)}" for name, found in known)
    return [f"What the last points rest on: {told}."] if told else []
