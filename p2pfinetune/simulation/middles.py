"""What peers of a simulation tell each other at the middle of their adapters, for schemes that ask (`trust.cobo`).

The same as between daemons, without a wire: who meets whom is drawn from the seed, the gradient of either is taken on
its own trust split by its own learner, and they are compared whole instead of by their sketches. All questions of a
wave to one peer are answered together. An attacker that flatters answers everybody with the asker's own gradient, which
no real one can know; longer, if it likes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from p2pfinetune.names import PeerId, Round
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.pairs import Numbers
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.training.batches import derived_seed


@dataclass(frozen=True, slots=True)
class Meeting:
    """One pair, from the side of who asks."""

    asker: PeerId
    asked: PeerId
    mine: LoraUpdate
    theirs: LoraUpdate


def meets(seed: int, number: Round, asker: PeerId, asked: PeerId, chance: float) -> bool:
    """Whether this pair meets in that round of the asker's."""
    drawn = np.random.default_rng(derived_seed("middle", seed, number, asker, asked)).random()
    return bool(drawn < chance)


def agreements(
    learners: Mapping[PeerId, Learner],
    meetings: Sequence[Meeting],
    flatters: Mapping[PeerId, float],
) -> dict[PeerId, dict[PeerId, float]]:
    """By who asks and who was asked. `flatters`: who answers with the asker's gradient, and how many times as long."""
    slopes = {
        (place, peer): slope
        for peer, places in _asked(meetings).items()
        for place, slope in zip(places, _slopes(learners[peer], [meetings[k] for k in places]), strict=True)
    }
    found: dict[PeerId, dict[PeerId, float]] = {meeting.asker: {} for meeting in meetings}
    for place, meeting in enumerate(meetings):
        mine, theirs = slopes[place, meeting.asker], slopes[place, meeting.asked]
        if meeting.asked in flatters:
            theirs = np.float32(flatters[meeting.asked]) * mine
        found[meeting.asker][meeting.asked] = learners[meeting.asker].middle.agreement(mine, theirs)
    return found


def _asked(meetings: Sequence[Meeting]) -> dict[PeerId, list[int]]:
    """Whose gradient is wanted at the middles of which pairs: of both sides of each."""
    found: dict[PeerId, list[int]] = {}
    for place, meeting in enumerate(meetings):
        for peer in (meeting.asker, meeting.asked):
            found.setdefault(peer, []).append(place)
    return found


def _slopes(learner: Learner, meetings: Sequence[Meeting]) -> list[Numbers]:
    slopes = learner.middle.slopes([(meeting.mine, meeting.theirs) for meeting in meetings])
    return [slope.vector().numpy() for slope in slopes]
