"""Steps as whole numbers: where an adapter is, in units of 2^-20 from the seeded start, and how far a step moves it.

    units   <-  units - round(units x decay / 2^24)             once a step, if there is any decay
    units   <-  units - amount x sign                           for each of the step's directions, in order
    weights  =  start + units x 2^-20                           rounded to fp32 once

Sums of integers are the same in any order and on any device, which sums of fp32 are not: a compiler that fuses a
product and a sum into one rounding changes them. Without decay a replay could even go backwards.

The grid is as fine as needed and no finer. An amount is the learning rate times the slope, some hundred units of a
usual step. And what is read off the weights has to be what was put into them: the difference of fp32 weights to the
start, rounded to the grid, gives the same units again as long as weights and moves are below 4, where both roundings
together stay below half a unit. So a trainer has to save nothing beside its weights. Far from there a step is still a
function of the weights alone, hence the same on every device.

Decay is towards the start and not towards zero: that is where an update is zero, it is the same thing for B, and a
receiver need not know the start. Weights from elsewhere, such as a merge, are rounded to the grid by the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.mezo.signs import Bits, Signs

Units = NDArray[np.int64]
Floats = NDArray[np.float32]

UNIT = 2.0**-20
MOST_UNITS = 1 << 40  # of an entry: a million, far beyond any bound on an update; keeps products below 2^63
MOST_AMOUNT = 1 << 24  # of a direction: moves an entry by 16
DECAY_BITS = 24
MOST_DECAY = 1 << 20  # a sixteenth of the way back in each step; times MOST_UNITS it is below 2^63
MOST_STEP = (1 << 32) - 1
MOST_SAMPLES = 64
MOST_RANK = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepList:
    """Steps one behind the other, each along as many directions: all that a training was, beside where it began."""

    seed: int
    """Of the signs; 64 bits."""
    first: int
    """The number of the first step, counted from 0 since training began."""
    samples: int
    """Directions of a step."""
    rank: int
    """Components that the trainer holds of each target; those of a wider adapter beyond it stay as they are."""
    decay: int
    """In 2^-24 of the way from the start, a step."""
    amounts: tuple[int, ...]
    """In units, of each direction of each step; zero of a step that was skipped."""

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= MOST_SAMPLES or not self.amounts or len(self.amounts) % self.samples:
            raise ValueError("every step has as many directions, and there is at least one step")
        if not (0 <= self.seed < 1 << 64 and self.first >= 0 and self.first + self.count - 1 <= MOST_STEP):
            raise ValueError("seed or step out of range")
        if not (1 <= self.rank <= MOST_RANK and 0 <= self.decay <= MOST_DECAY):
            raise ValueError("rank or decay out of range")
        if any(abs(amount) > MOST_AMOUNT for amount in self.amounts):
            raise ValueError("a step that moves further than any does")

    @property
    def count(self) -> int:
        """Steps."""
        return len(self.amounts) // self.samples

    def steps(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """The number and the amounts of each."""
        for place in range(self.count):
            yield self.first + place, self.amounts[place * self.samples : (place + 1) * self.samples]


def units_of(moved_p: Floats) -> Units:
    """The nearest place on the grid. ValueError for what is no number."""
    if not np.isfinite(moved_p).all():
        raise ValueError("not all entries are finite")
    return np.rint(np.clip(moved_p.astype(np.float64) / UNIT, -MOST_UNITS, MOST_UNITS)).astype(np.int64)


def floats_of(units_p: Units) -> Floats:
    """How far that is; exact below 16."""
    return (units_p * UNIT).astype(np.float32)


def taken(units_p: Units, steps: StepList, signs: Signs) -> Units:
    """Where these steps lead from there; `signs` are those of the entries in the same order."""
    moves = _Moves(units_p)
    for number, amounts in steps.steps():
        if steps.decay:
            found_p = moves.whole()
            found_p -= (found_p * steps.decay + (1 << DECAY_BITS - 1)) >> DECAY_BITS
        for sample, amount in enumerate(amounts):
            if amount:
                moves.add(signs.bits(steps.seed, number, sample), amount)
    return moves.whole()


class _Moves:
    """A sum that is carried in 32 bits as long as it fits, at a quarter of the time of 64."""

    def __init__(self, units_p: Units) -> None:
        self._units_p = units_p.copy()
        self._begin()

    def _begin(self) -> None:
        self._pending_p = np.zeros(len(self._units_p), np.int32)
        self._all, self._room = 0, (1 << 31) - 1

    def add(self, bits_p: Bits, amount: int) -> None:
        """Take the amount from entries with a plus and give it to those with a minus: amount - 2 x amount x bit."""
        if 2 * abs(amount) > self._room:
            self.whole()
        move_p = bits_p.astype(np.int32)
        move_p *= 2 * amount
        self._pending_p -= move_p
        self._all += amount
        self._room -= 2 * abs(amount)

    def whole(self) -> Units:
        """All so far, in the memory that is gone on with."""
        self._units_p += self._pending_p
        self._units_p += self._all
        self._begin()
        return self._units_p


def replayed(moved: Mapping[str, Floats], steps: StepList) -> dict[str, Floats]:
    """Factors as far from the start as these steps lead from where `moved` is: the same on every device.

    ValueError for entries that are not finite. Components beyond the trainer's rank, and they alone, are left as given.
    """
    held = {name: _held(name, values, steps.rank) for name, values in moved.items()}
    signs = Signs({name: values.shape for name, values in held.items()})
    units_p = units_of(np.concatenate([values.reshape(-1) for values in held.values()]))
    ended_p = floats_of(taken(units_p, steps, signs))
    found = {}
    for (name, values), part in zip(moved.items(), np.split(ended_p, np.cumsum(signs.sizes)[:-1]), strict=True):
        found[name] = values.copy()
        _held(name, found[name], steps.rank)[...] = part.reshape(held[name].shape)
    return found


def _held(name: str, values: Floats, rank: int) -> Floats:
    """The first components, one a row, in the same memory: of B the transpose."""
    return (values.T if name.endswith(".lora_B") else values)[:rank]
