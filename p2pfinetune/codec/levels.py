"""levels: rounding to one step for all entries, entropy coded, and differences to a key frame.

One step for the whole update is what costs least for its mean square error (reverse water-filling): entries far below
it become zeros, which an entropy coder writes in a fraction of a bit, and no group of entries needs a scale. The step
is a share of the root mean square of what is told, so the error is always the same part of the update.

A difference to a key frame is rounded by the same step as the whole would be: an update is as near to the truth whether
it comes as one or the other, and errors never add up. From round to round an adapter moves a part of its way, so that
differences take a half to a quarter of the bits; when they are dear, the next key frame comes.

Rounding is to the nearest, without the dead zone of image codecs: to round down shrinks every update a little and
thereby undoes training, which costs several times what the bits are worth (docs/adr/0046).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.codec import _coded as container
from p2pfinetune.codec._base import DifferenceCodec, Schema
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

KEY, DIFFERENCE = "levels 1", "levels 1, difference"
DEAR = 0.6  # of the bytes of a key frame: a longer difference makes room for one, after which they are short again


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels(DifferenceCodec):
    """About 2.6 bits an entry for a key frame and 0.5 to 1.5 for a difference, at one step for all entries.

    Error: at most half a step, of `step` root mean squares of the update; doubled for 64 entries among which one is
    beyond 127 steps, until it is not. A difference adds the rounding of one sum in fp32.
    """

    step: float = 0.75
    """In root mean squares of the update."""

    def __post_init__(self) -> None:
        """ValueError for what is no step."""
        if not 1e-3 <= self.step <= 8.0:
            raise ValueError("a step is 0.001 to 8 root mean squares")

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """A key frame."""
        values = container.vector(tensors)
        blob = container.write(KEY, container.shapes(tensors), values, self._step(values))
        assert blob is not None, "an entry is no more root mean squares than there are entries"
        return blob

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Numbers times step."""
        values = container.read(KEY, schema, blob)
        return values if isinstance(values, Refusal) else container.tensors_of(values, schema)

    def encode_difference(self, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> bytes | None:
        """None: dear."""
        values = container.vector(tensors)
        change = values - container.vector(base)
        blob = container.write(DIFFERENCE, container.shapes(tensors), change, self._step(values))
        return blob if blob is not None and len(blob) <= DEAR * len(self.encode(tensors)) else None

    def decode_difference(self, blob: bytes, schema: Schema, base: Mapping[str, Tensor]) -> dict[str, Tensor] | Refusal:
        """The base, and numbers times step."""
        values = container.read(DIFFERENCE, schema, blob)
        return values if isinstance(values, Refusal) else container.tensors_of(values + container.vector(base), schema)

    def max_bytes(self, schema: Schema) -> int:
        """Head, tables, and at most 8.5 bits an entry."""
        return container.max_bytes(schema)

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Of a tensor that is the whole update."""
        return self.error_bounds({"": tensor})[""]

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Half a step of the entry's group, and what fp32 cannot say of it."""
        return container.bounds(tensors, self._step(container.vector(tensors)))

    def _step(self, values: container.Values) -> float:
        return container.as_step(self.step * container.root_mean_square(values))
