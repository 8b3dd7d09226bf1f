"""Panel: the peers of my network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from p2pfinetune.names import PeerId
from peerd.panels._base import Column, Drawing, Panel, Table
from peerd.status import NeighbourNow, RoundRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers(Panel):
    """Everyone of my network that I know, and what I refused from them."""

    title = "Peers"
    order = 50
    width = "full"

    def draw(self, status: Status, rounds: Sequence[RoundRecord]) -> Drawing:
        """Most trusted first."""
        ranked = sorted(status.neighbours, key=lambda peer: (-peer.trust, not peer.connected, peer.peer_id))
        names = {status.peer_id: "me", **{peer.peer_id: peer.name for peer in status.neighbours}}
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
                    peer.name or "(no name)",
                    peer.peer_id,
                    "connected" if peer.connected else "away",
                    peer.trust,
                    peer.round,
                    peer.age_seconds,
                    peer.bytes_in,
                    peer.bytes_out,
                    ", ".join(f"{reason} {count}" for reason, count in sorted(peer.refused.items())) or "none",
                    _note(peer, names),
                ]
                for peer in ranked
            ],
            empty="No peer found yet.",
        )


def _note(peer: NeighbourNow, names: Mapping[PeerId, str]) -> str:
    copied = f"copy of {names.get(peer.copy_of) or peer.copy_of}" if peer.copy_of else ""
    return ", ".join(part for part in (peer.standing if peer.standing != "good" else "", copied) if part)
