"""How a peer stands: offences are weighed and fade; too many of them ban the peer, each time for longer.

A ban is about one peer id, and ids are cheap; what a crowd of new ids can do is bounded elsewhere (strangers'
announcements, connections of one address). It spares work and traffic with one that keeps offending, and is shown.

    good --- offences >= THROTTLE_AT ---> throttled --- offences >= BAN_AT ---> banned until `until`
     ^   <-- they halve every 10 minutes --   |                                      |
     +----------------------------------------+------- time is over, or by hand -----+
                                                       (the next ban is BAN_GROWTH times longer)

The weight of a reason answers one question: can an honest peer cause it, or another in its name? A weight of 3 is for
what proves intent or a broken program (a wrong signature, bytes that are no update): four of those ban. What haste, a
wrong clock, late gossip or another version brings about weighs next to nothing, however often it comes. What anybody
can bring about with a peer's old words weighs zero, or the penalty would be a weapon: see `intake.REPEATABLE`. As with
the peer score of gossipsub v1.1, each node judges alone, by what it saw: a score that is passed on could be made up.

Offences fade by halves, so there is no window at whose edge a peer is forgiven all at once, and the state is one number
and its time.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from p2pfinetune.names import PeerId
from peerd.core.limits import BAN_AT, BAN_GROWTH, BAN_SECONDS, MAX_BAN_SECONDS, OFFENCES_HALVE_SECONDS, THROTTLE_AT

WEIGHTS: Mapping[str, float] = {
    "other-network": 0.0,  # gossip of a neighbouring network: no fault
    "version": 0.0,  # an older or a newer peerd
    "stale": 0.0,  # a wrong clock, theirs or mine, is no attack
    "from-the-future": 0.0,
    "throttled": 0.01,  # at the quickest pace that is allowed this comes to three; a flood is banned in half a minute
    "replay": 0.0,  # gossip comes late; and whoever repeats the words of another must not get that other banned
    "rate": 0.2,  # an impatient peer, until it is a flood
    "quota": 0.05,  # quick rounds of a large adapter; what is beyond is not fetched, which is enough
    "norm-outlier": 0.2,  # a veteran among newcomers, for some rounds
    "unknown-codec": 0.1,  # a newer version, which says it again every half minute
    "no-base": 0.0,  # it may have gone offline, or keep its key frames for too short a time
    "middle-not-chosen": 0.01,  # who asks cannot know what I chose, and asks once an hour; more is a flood
    "middle-busy": 0.01,
    "middle-absent": 0.01,  # its update or mine is on its way; it asks one peer every five seconds at most
    "middle-again": 0.2,  # after a restart, an honest one may ask twice
    "inspection-failed": 0.0,  # our worker's trouble
}
USUAL_WEIGHT = (
    3.0  # what cannot happen to an honest peer: a wrong signature, bytes that are no update, numbers not finite
)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Of one peer. Times are monotonic seconds.

    A ban sets `offences` to 0 as it begins, so who comes back from one is not throttled at once.
    """

    offences: float = 0.0
    """Weighed and faded, as of `at`."""
    at: float = 0.0
    bans: int = 0
    """How often it has been banned; a ban that was lifted by hand does not count."""
    until: float = float("-inf")
    """Banned up to this time."""
    reason: str = ""
    """The last offence before the ban."""

    def is_banned(self, at: float) -> bool:
        """Whether nothing of this peer is wanted."""
        return at < self.until


def weight(reason: str) -> float:
    return WEIGHTS.get(reason, USUAL_WEIGHT)


def faded(standing: Standing, at: float) -> float:
    """What is left of the offences."""
    return float(standing.offences * 0.5 ** (max(0.0, at - standing.at) / OFFENCES_HALVE_SECONDS))


def offended(standing: Standing, at: float, reason: str) -> Standing:
    """After one more offence; banned if that was one too many."""
    offences = faded(standing, at) + weight(reason)
    if standing.is_banned(at) or offences < BAN_AT:
        return replace(standing, offences=offences, at=at)
    return Standing(offences=0.0, at=at, bans=standing.bans + 1, until=at + ban_seconds(standing.bans), reason=reason)


def ban_seconds(bans: int) -> float:
    """Of the next ban after so many."""
    return min(MAX_BAN_SECONDS, BAN_SECONDS * BAN_GROWTH ** min(bans, 32))


def is_throttled(standing: Standing, at: float) -> bool:
    """Has offended so much that it is heard more rarely and served last."""
    return not standing.is_banned(at) and faded(standing, at) >= THROTTLE_AT


def worth_keeping(standings: Mapping[PeerId, Standing], at: float, most: int) -> dict[PeerId, Standing]:
    """At most so many. Half: who is banned first, then who was, then who offended most; the others: who did it last.

    Else a crowd that got itself banned would leave no room to remember the offences of anybody else.
    """
    if len(standings) <= most:
        return dict(standings)

    def weighs(entry: tuple[PeerId, Standing]) -> tuple[bool, int, float, float, PeerId]:
        peer, standing = entry
        return standing.is_banned(at), standing.bans, standing.until, faded(standing, at), peer

    ranked = sorted(standings.items(), key=weighs)
    lasting, others = ranked[most // 2 - most :], ranked[: most // 2 - most]
    others.sort(key=lambda entry: entry[1].at)
    return dict(others[-(most // 2) :] + lasting)
