"""Panel: what was read of the user's data, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Drawing, Fact, Panel, Words
from peerd.control.words import refusals, text_not_used
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPanel(Panel):
    """What is trained on. What is no text of yours is left out: attachments, keys, generated text, own files."""

    title = "My text"
    order = 55

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Totals, then what is not used and why."""
        now = status.text
        encodings = [f"Encodings: {refusals(now.encodings)}."] if now.encodings else []
        return Words(
            sentences=[*text_not_used(now), *encodings],
            facts=[
                Fact(label="files", value=now.files, unit="number"),
                Fact(label="documents", value=now.documents, unit="number"),
                Fact(label="conversations among them", value=now.conversations, unit="number"),
                Fact(label="characters", value=now.characters, unit="number"),
                Fact(label="files and folders left out", value=sum(now.skipped.values()), unit="number"),
                Fact(label="characters left out of files", value=sum(now.left_out.values()), unit="number"),
            ],
        )
