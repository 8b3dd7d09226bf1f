"""Panel: what the updates that left this device betray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Drawing, Fact, Panel, Words
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPanel(Panel):
    """Everything ever published by this home. Your text is never sent; updates made from it can betray parts of it."""

    title = "What left this device"
    order = 65

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """The sentence, then totals."""
        privacy, sent = status.privacy, status.sent
        return Words(
            sentences=[privacy.sentence] if privacy.sentence else [],
            facts=[
                Fact(label="updates announced", value=sent.publications, unit="number"),
                Fact(label="of them without noise", value=privacy.bare, unit="number"),
                Fact(label="sent to peers", value=sent.bytes, unit="bytes"),
                Fact(label="peers", value=sent.peers, unit="number"),
                Fact(label="epsilon", value=privacy.epsilon, unit="number"),
            ],
        )
