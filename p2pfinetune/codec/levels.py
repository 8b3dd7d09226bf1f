"""levels: rounding to one step for all entries, entropy coded, and differences to a key frame.

One step for the whole update is what costs least for its mean square error (reverse water-filling): entries far below
it become zeros, which an entropy coder writes in a fraction of a bit, and no group of entries needs a scale. The step
is a share of the root mean square of what is told, so the error is always the same part of the update.

A difference to a key frame is rounded by the same step as the whole would be: an update is as near to the truth whether
it comes as one or the other. From round to round an adapter moves a part of its way, so that differences take from a
third to a little over a half of the bits; when they are dear, the next key frame comes.

The grid that entries are rounded to is shifted for each entry by a part of a step, and by another part in each round
(subtractive dither). On a grid that stays where it is, an entry that moves by less than half a step is told as not
having moved, round after round; all that merge it are pulled back to the key frame each time, and such errors add up.
On grids that are dealt evenly over the rounds, what is told swings around the truth, and the mean of some rounds is
nearer to it than any one. That is what feedback of errors does, with nothing to be kept.

Rounding is to the nearest, without the dead zone of image codecs: to round down shrinks every update a little and
thereby undoes training, which costs several times what the bits are worth (docs/adr/0046).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from p2pfinetune.codec import _coded as container
from p2pfinetune.codec._base import Schema
from p2pfinetune.codec._levelled import LevelledCodec
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

DEAR = 0.6  # of the bytes of a key frame: a longer difference makes room for one, after which they are short again
TURN_BYTES: Final = 1  # behind the container's bytes: which grid
GOLDEN: Final = 0x9E3779B9  # of 2^32: multiples of the golden ratio are spread most evenly, however many there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels(LevelledCodec):
    """About 2.6 bits an entry for a key frame and 1.0 to 1.6 for a difference, at one step for all entries.

    Error: at most half a step, of `step` root mean squares of the update; doubled for 64 entries among which one is
    beyond 127 steps, until it is not. A difference adds the rounding of one sum in fp32.
    """

    KEY: ClassVar = "levels 2"
    DIFFERENCE: ClassVar = "levels 2, difference"

    step: float = 0.75
    """In root mean squares of the update."""

    def __post_init__(self) -> None:
        """ValueError for what is no step."""
        if not 1e-3 <= self.step <= 8.0:
            raise ValueError("a step is 0.001 to 8 root mean squares")

    def encode_difference(
        self, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], turn: int = 1
    ) -> bytes | None:
        """None: dear."""
        values = container.vector(tensors)
        change = values - container.vector(base)
        blob = self._write(self.DIFFERENCE, tensors, change, self._step(values), turn)
        return blob if blob is not None and len(blob) <= DEAR * len(self.encode(tensors)) else None

    def max_bytes(self, schema: Schema) -> int:
        """Head, tables, at most 8.5 bits an entry, and the turn."""
        return container.max_bytes(schema) + TURN_BYTES

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Half a step of the entry's group, and what fp32 cannot say of it."""
        values = container.vector(tensors)
        step = self._step(values)
        return container.bounds(tensors, values + step * offsets(len(values), 0), step)

    def _step(self, values: container.Values) -> float:
        return container.as_step(self.step * container.root_mean_square(values))

    def _write(
        self, form: str, tensors: Mapping[str, Tensor], values: container.Values, step: float, turn: int = 0
    ) -> bytes | None:
        turn %= 256
        shifted = values + step * offsets(len(values), turn)
        blob = container.write(form, container.shapes(tensors), shifted, step)
        return None if blob is None else blob + bytes([turn])

    def _read(self, form: str, blob: bytes, schema: Schema) -> container.Values | Refusal:
        values = container.read(form, schema, blob[:-TURN_BYTES])
        if isinstance(values, Refusal):
            return values
        return values - container.step_of(blob) * offsets(len(values), blob[-1])


def offsets(entries: int, turn: int) -> container.Values:
    """(entries,): how far the grid of each is shifted in this turn, -1/2 up to 1/2 of a step.

    Of an entry, evenly dealt over any turns that follow one another; of a turn, by a hash of the entry's place
    (lowbias32 of github.com/skeeto/hash-prospector), so that they have to do with nothing an adapter is made of.
    """
    place = np.arange(entries, dtype=np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        place = (place ^ place >> np.uint32(shift)) * np.uint32(factor)
    dealt = (place ^ place >> np.uint32(16)) + np.uint32(turn * GOLDEN % 2**32)
    return dealt / 2.0**32 - 0.5
