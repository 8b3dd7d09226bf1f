"""Panel: what the model took from others, when it took anything last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.merges import refused_in_words, taken_in_words
from peerd.control.panels._base import Bar, BarChart, Drawing, Panel, titles
from peerd.control.peer_names import title
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustNowPanel(Panel):
    """The weights of the last merge that was taken: what came into my model then. My own training has gone on since.

    They are worked out here, on my own text, and sum to one; nobody else can set them. A merge that the guard does not
    take leaves nothing in the model, so it is told below and is not in the bars.
    """

    title = "What my model took from others"
    order = 30

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Myself first, then the most trusted; above them of which round, and what was not taken since."""
        names, now = titles(status), status.merges
        row = now.row or ({status.peer_id: 1.0} if rounds else {})
        ranked = sorted(row.items(), key=lambda pair: (pair[0] != status.peer_id, -pair[1], pair[0]))
        said = (taken_in_words(now), refused_in_words(now, names, status.peer_id)) if rounds else ()
        return BarChart(
            bars=[
                Bar(label=names.get(peer) or title("", peer), key=peer, value=weight, mine=peer == status.peer_id)
                for peer, weight in ranked
            ],
            full=1.0,
            unit="percent",
            empty="No round has ended yet.",
            sentences=[sentence for sentence in said if sentence],
        )
