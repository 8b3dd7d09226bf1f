"""Panel: how trust developed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pfinetune.names import PeerId
from peerd.control.panels._base import Drawing, Line, Panel, Series, titles
from peerd.control.peer_names import title
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustOverTimePanel(Panel):
    """What the merge of each round took, stacked to one: who came, who went, and whom my model learnt to listen to.

    A round whose merge was not taken is all mine: nothing of it came into the model. `peerd rounds` says why.
    """

    title = "What each merge took"
    order = 40

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Me at the bottom, then by mean weight."""
        names = titles(status)
        total: dict[PeerId, float] = {}
        rows = [(record.round, _taken(record, status.peer_id)) for record in rounds if record.row]
        for _, row in rows:
            for peer, weight in row.items():
                total[peer] = total.get(peer, 0.0) + weight
        ranked = sorted(total, key=lambda peer: (peer != status.peer_id, -total[peer], peer))
        return Series(
            lines=[
                Line(
                    label=names.get(peer) or title("", peer),
                    key=peer,
                    points=[(number, row.get(peer, 0.0)) for number, row in rows],
                    mine=peer == status.peer_id,
                )
                for peer in ranked
            ],
            x_label="round",
            y_label="share of the merge",
            unit="percent",
            empty="Nothing merged yet.",
            stacked=True,
        )


def _taken(record: RoundRecord, me: PeerId) -> Mapping[PeerId, float]:
    return record.row if record.accepted else {me: 1.0}
