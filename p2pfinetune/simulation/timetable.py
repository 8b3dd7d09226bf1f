"""Who trains, publishes and hears whom, and when: a whole simulation's schedule as a value, drawn before anything runs.

Time is virtual and in nominal rounds. A timetable knows no learning, so every engine that follows it gets the
same numbers. Every peer ends the same number of rounds, however quick it is, so that all are trained equally.

A visit is the end of one peer's round. Visits are sorted by time and cut into waves of distinct peers as long as they
can be: what a wave's peers hear was published at their time at the latest, so a wave can run in one pass and the
outcome is that of one visit after the other. In lock-step a wave is a round of everybody.

    trains --(its time comes)--> online?  yes: publishes, hears the freshest visible update of each neighbour, merges
                                          no:  goes on from its own adapter, alone

Age is measured from the moment of publication and visibility from `delay` later, as in a network where an update takes
time to be fetched; an update that is too old is not heard rather than an older one looked for.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId, Round


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long rounds and updates take, in nominal rounds."""

    kind: Annotated[
        Literal["lock-step", "asynchronous"],
        Meta(
            description="Lock-step: every round takes one, and its updates arrive at once, so that everybody "
            "hears the same round."
        ),
    ] = "lock-step"
    spread: Annotated[
        float,
        Meta(
            description="How unlike the peers' speeds are: a peer's rounds last 1 / (1 + spread) to 1 + spread, "
            "drawn log-uniformly."
        ),
    ] = 0.0
    jitter: Annotated[
        float,
        Meta(
            description="How unlike the rounds of one peer are: each lasts up to this part shorter or longer. Below 1."
        ),
    ] = 0.0
    delay: Annotated[float, Meta(description="From the end of a round's training to where others can hear of it.")] = (
        0.0
    )
    max_age: Annotated[float, Meta(description="Updates published longer ago are not heard; 0: none is too old.")] = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("lock-step", "asynchronous"):
            raise OptionError(f"there is no timing {self.kind!r}", "choose lock-step or asynchronous")
        for name in ("spread", "jitter", "delay", "max_age"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise OptionError(f"{name} is zero or a positive number, not {getattr(self, name)}")
        if self.jitter >= 1.0:
            raise OptionError(f"jitter is below 1, not {self.jitter}: no round lasts no time")
        if 0.0 < self.max_age < self.delay:
            raise OptionError("a max_age below delay lets nobody hear anything")
        if self.kind == "lock-step" and (self.spread or self.jitter or self.delay):
            raise OptionError("in lock-step there is no spread, jitter or delay", 'choose timing kind "asynchronous"')


class Churn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peers that come and go: before each of its rounds a peer leaves or comes back. All begin online."""

    leave: Annotated[float, Meta(description="Probability to go offline for one who is online.")] = 0.0
    back: Annotated[float, Meta(description="Probability to come back for one who is offline.")] = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.leave <= 1.0 and 0.0 <= self.back <= 1.0):
            raise OptionError("leave and back are probabilities, between 0 and 1")


@dataclass(frozen=True, slots=True)
class Visit:
    """One peer ends the training of one of its rounds; if it is online, it publishes and then merges."""

    peer: PeerId
    round: Round
    time: float
    """Virtual; a nominal round is 1."""
    is_online: bool
    """An offline peer neither publishes nor merges; it goes on from its own adapter."""
    hears: Mapping[PeerId, Round]
    """Neighbour to the round of its freshest update that is visible here; empty if offline."""


Wave = tuple[Visit, ...]
"""Visits of distinct peers. All train, then all publish, then all merge: no outcome depends on another of the wave."""


def timetable(
    peers: Sequence[PeerId],
    neighbours: Mapping[PeerId, Sequence[PeerId]],
    rounds: int,
    timing: Timing,
    churn: Churn,
    seed: int,
) -> tuple[Wave, ...]:
    """All visits in the order of time (at equal times, of `peers`), cut into waves that are as long as they can be.

    What is heard was published in this or an earlier wave, at this visit's time at the latest. The dice of a peer are
    its own: they fall the same in whatever company.
    """
    visits = {peer: _life(peer, rounds, timing, churn, seed) for peer in peers}
    published = {peer: _Published.of(visits[peer], timing) for peer in peers}
    order = {peer: place for place, peer in enumerate(peers)}
    due = sorted((visit for life in visits.values() for visit in life), key=lambda v: (v.time, order[v.peer]))
    heard = [_hearing(visit, neighbours.get(visit.peer, ()), published, timing) for visit in due]
    return tuple(_waves(heard))


_NOTHING: Mapping[PeerId, Round] = MappingProxyType({})


def _life(peer: PeerId, rounds: int, timing: Timing, churn: Churn, seed: int) -> list[Visit]:
    """One peer's visits, before it is known whom it hears."""
    pace, presence = random.Random(f"pace {seed} {peer}"), random.Random(f"presence {seed} {peer}")
    speed = (1.0 + timing.spread) ** pace.uniform(-1.0, 1.0)
    time, is_online, life = 0.0, True, []
    for number in range(1, rounds + 1):
        time += speed * pace.uniform(1.0 - timing.jitter, 1.0 + timing.jitter)
        is_online = presence.random() >= churn.leave if is_online else presence.random() < churn.back
        life.append(Visit(peer, Round(number), time, is_online, _NOTHING))
    return life


@dataclass(frozen=True, slots=True)
class _Published:
    """What one peer has let others hear, oldest first."""

    rounds: tuple[Round, ...]
    times: tuple[float, ...]
    visible: tuple[float, ...]

    @classmethod
    def of(cls, life: Sequence[Visit], timing: Timing) -> _Published:
        online = [visit for visit in life if visit.is_online]
        times = tuple(visit.time for visit in online)
        return cls(tuple(visit.round for visit in online), times, tuple(time + timing.delay for time in times))

    def freshest(self, now: float, max_age: float) -> Round | None:
        """The newest round that is visible now, unless even that was published more than `max_age` ago."""
        last = bisect_right(self.visible, now) - 1
        if last < 0 or (max_age and now - self.times[last] > max_age):
            return None
        return self.rounds[last]


def _hearing(visit: Visit, speakers: Sequence[PeerId], published: Mapping[PeerId, _Published], timing: Timing) -> Visit:
    if not visit.is_online:
        return visit
    found = {peer: published[peer].freshest(visit.time, timing.max_age) for peer in speakers}
    hears = MappingProxyType({peer: number for peer, number in found.items() if number is not None})
    return Visit(visit.peer, visit.round, visit.time, visit.is_online, hears)


def _waves(visits: Sequence[Visit]) -> Iterator[Wave]:
    """Greedy runs of distinct peers; visits of one moment stay together, for they hear one another."""
    wave: list[Visit] = []
    present: set[PeerId] = set()
    for _, tied in groupby(visits, key=lambda visit: visit.time):
        moment = list(tied)
        if any(visit.peer in present for visit in moment):
            yield tuple(wave)
            wave, present = [], set()
        wave += moment
        present |= {visit.peer for visit in moment}
    if wave:
        yield tuple(wave)
