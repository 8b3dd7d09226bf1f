"""Whom my model listens to, and why: the last trust row beside its history and what it rests on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.trust import SCHEMES
from peerd.control.answers import TrustedPeer, TrustNow, TrustPoint
from peerd.status import RoundRecord, Status

HISTORY = 100  # rounds; more belongs to `peerd rounds`


def trust_now(status: Status, rounds: Sequence[RoundRecord]) -> TrustNow:
    """The row of the last finished round, me first, then the most trusted; then who is only in an earlier merge."""
    last = rounds[-1] if rounds else None
    row = dict.fromkeys(status.merges.row, 0.0) | (last.row if last else {})
    ranked = sorted(row, key=lambda peer: (peer != status.peer_id, -row[peer], peer))
    return TrustNow(
        scheme=status.trust_scheme,
        measured=_measured(status.trust_scheme),
        round=last.round if last else None,
        accepted=last.accepted if last else None,
        reason=last.reason if last else "",
        guard_own=last.guard_own if last else None,
        guard_personal=last.guard_personal if last else None,
        merges=status.merges,
        row=[_trusted(peer, row[peer], status, rounds[-HISTORY:]) for peer in ranked],
    )


def _trusted(peer: PeerId, weight: float, status: Status, rounds: Sequence[RoundRecord]) -> TrustedPeer:
    history = [TrustPoint(round=r.round, weight=r.row[peer], taken=r.accepted) for r in rounds if peer in r.row]
    known = next((neighbour for neighbour in status.neighbours if neighbour.peer_id == peer), None)
    mine = peer == status.peer_id
    return TrustedPeer(
        peer_id=peer,
        name=status.name if mine else known.name if known else "",
        is_me=mine,
        weight=weight,
        mean_weight=sum(point.weight for point in history) / max(len(history), 1),
        history=history,
        update_round=status.round if mine else known.round if known else None,
        update_age_seconds=known.age_seconds if known else None,
        refused=known.refused if known else {},
        copy_of=known.copy_of if known else None,
        taken_weight=status.merges.row.get(peer, 0.0),
    )


def _measured(scheme: str) -> str:
    try:
        return SCHEMES.help(scheme).split("\n\n", maxsplit=1)[0].replace("\n", " ")
    except OptionError:  # a daemon of another version may know a scheme that we do not
        return ""
