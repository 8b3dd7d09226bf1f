"""Panel: how trust developed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from p2pfinetune.names import PeerId
from peerd.panels._base import Drawing, Line, Panel, Series, titles
from peerd.peer_names import title
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOverTime(Panel):
    """The same weights round by round, stacked to one: who came, who went, and whom my model learnt to listen to."""

    title = "Trust over time"
    order = 40

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Me at the bottom, then by mean weight."""
        names = titles(status)
        total: dict[PeerId, float] = {}
        for record in rounds:
            for peer, weight in record.row.items():
                total[peer] = total.get(peer, 0.0) + weight
        ranked = sorted(total, key=lambda peer: (peer != status.peer_id, -total[peer], peer))
        return Series(
            lines=[
                Line(
                    label=names.get(peer) or title("", peer),
                    key=peer,
                    points=[(record.round, record.row.get(peer, 0.0)) for record in rounds if record.row],
                    mine=peer == status.peer_id,
                )
                for peer in ranked
            ],
            x_label="round",
            y_label="share of my model",
            unit="percent",
            empty="Nothing merged yet.",
            stacked=True,
        )
