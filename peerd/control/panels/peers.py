"""Panel: the peers of my network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peerd.control.panels._base import Column, Drawing, Panel, Table, titles
from peerd.control.peer_names import cell
from peerd.control.words import note
from peerd.status import RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersPanel(Panel):
    """Everyone of my network that I know, and what I refused from them."""

    title = "Peers"
    order = 50
    width = "full"

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Most trusted first."""
        ranked = sorted(status.neighbours, key=lambda peer: (-peer.trust, not peer.connected, peer.peer_id))
        names = titles(status)
        return Table(
            columns=[
                Column(label="peer"),
                Column(label="id", unit="id"),
                Column(label="link"),
                Column(label="trust", unit="percent"),
                Column(label="round", unit="number"),
                Column(label="latest update", unit="seconds"),
                Column(label="received", unit="bytes"),
                Column(label="sent", unit="bytes"),
                Column(label="refused"),
                Column(label="note"),
            ],
            rows=[
                [
                    cell(peer.name),
                    peer.peer_id,
                    "connected" if peer.connected else "away",
                    peer.trust,
                    peer.round,
                    peer.age_seconds,
                    peer.bytes_in,
                    peer.bytes_out,
                    ", ".join(f"{reason} {count}" for reason, count in sorted(peer.refused.items())) or "none",
                    note(peer, names),
                ]
                for peer in ranked
            ],
            empty="No peer found yet.",
        )
