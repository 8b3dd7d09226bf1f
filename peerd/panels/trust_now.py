"""Panel: whom the model listened to in its last merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.panels._base import Bar, Bars, Drawing, Panel, titles
from peerd.peer_names import title
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustNow(Panel):
    """The weights of my last merge: how much of my personal model comes from each peer.

    They are worked out here, on my own text, and sum to one; nobody else can set them.
    """

    title = "Whom I trust now"
    order = 30

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Myself first, then the most trusted."""
        names = titles(status)
        row = rounds[-1].row if rounds else {}
        ranked = sorted(row.items(), key=lambda pair: (pair[0] != status.peer_id, -pair[1], pair[0]))
        return Bars(
            bars=[
                Bar(label=names.get(peer) or title("", peer), key=peer, value=weight, mine=peer == status.peer_id)
                for peer, weight in ranked
            ],
            full=1.0,
            unit="percent",
            empty="Nothing merged yet.",
        )
