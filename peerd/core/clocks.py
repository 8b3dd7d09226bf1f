"""What peers say about this machine's clock, and whom that is believed.

Each announcement says when it was sealed, so one that comes straight from its peer and does not fit tells that one of
two clocks is wrong, and not which. Anybody can say anything, so only those count that had a fair weight in one of my
last rows, more than half of those connected must differ from me alike, and what no clock could show is ignored. If I
have merged with nobody yet, there is nobody to believe: then what all say is told, and does not touch health.

Nothing is corrected. A daemon that set its clock by its peers would be set by who brings the most of them (the
selection of NTP, RFC 5905, needs an honest majority too); so the clock is only spoken of, and a person sets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from p2pfinetune.names import PeerId, Round
from peerd.core.limits import (
    CLOCK_ROUNDS,
    MAX_AGE_SECONDS,
    MAX_AHEAD_SECONDS,
    MAX_CLOCK_OFF_SECONDS,
    MAX_LISTENED_TO,
    MIN_STRANGE_CLOCKS,
)
from peerd.core.neighbours import Neighbour
from peerd.core.state import Node

STALE, FROM_THE_FUTURE = "stale", "from-the-future"


class Opinion(msgspec.Struct, frozen=True, kw_only=True):
    """What most of them say."""

    differ: int
    """So many of those asked say that our clocks differ, alike."""
    asked: int
    seconds: float
    """By which my clock is ahead of theirs, in the median; negative if it is behind."""
    is_trusted: bool
    """Those asked had weight in my last rows; else they are all that are connected."""


def why_untimely(age_seconds: float) -> str:
    """Sealed too long ago, or in the future; empty if it is neither."""
    if age_seconds > MAX_AGE_SECONDS:
        return STALE
    return FROM_THE_FUTURE if age_seconds < -MAX_AHEAD_SECONDS else ""


def told_by(age_seconds: float) -> float:
    """By how much my clock is ahead of its sender's, if too far; 0 if it is not, or more than clocks can be."""
    return age_seconds if why_untimely(age_seconds) and abs(age_seconds) <= MAX_CLOCK_OFF_SECONDS else 0.0


def opinion(node: Node) -> Opinion | None:
    """What most of those say whom I believe; None if they agree with me, with nobody, or are too few."""
    connected = [known for known in node.neighbours.values() if known.connected]
    since = node.round - CLOCK_ROUNDS
    trusted = [known for known in connected if node.listened_to.get(known.peer, since) > since]
    return _majority(trusted or connected, is_trusted=bool(trusted))


def _majority(asked: list[Neighbour], *, is_trusted: bool) -> Opinion | None:
    for sign in (1.0, -1.0):
        off = sorted(known.clock_off for known in asked if known.clock_off * sign > 0.0)
        if not off:
            continue
        median = off[len(off) // 2]
        alike = [one for one in off if abs(one - median) <= MAX_AGE_SECONDS]
        if len(alike) >= MIN_STRANGE_CLOCKS and 2 * len(alike) > len(asked):
            return Opinion(differ=len(alike), asked=len(asked), seconds=median, is_trusted=is_trusted)
    return None


def listening(
    before: Mapping[PeerId, Round], row: Mapping[PeerId, float], me: PeerId, round_: Round
) -> dict[PeerId, Round]:
    """Who had a fair weight in a row, and in which round last: half of an equal share at least. A bounded number."""
    heard = {peer for peer, weight in row.items() if peer != me and 2 * weight * len(row) >= 1.0}
    kept = {peer: last for peer, last in before.items() if peer not in heard}
    return dict([*kept.items(), *((peer, round_) for peer in sorted(heard))][-MAX_LISTENED_TO:])


def listened_in(rows: Iterable[tuple[Round, Mapping[PeerId, float]]], me: PeerId) -> dict[PeerId, Round]:
    """The same of many rows, oldest first."""
    found: dict[PeerId, Round] = {}
    for round_, row in rows:
        found = listening(found, row, me, round_)
    return found
