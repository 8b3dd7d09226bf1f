"""int4: half a byte an entry, by 15 symmetric steps of one scale for every 32 entries.

As int8, with fewer steps; so few bear no outlier beside them, hence a scale for 32 entries, not for 64. What a merge
loses by it is in docs/adr/0046.
The scale is a bf16, rounded up, so that the largest entry is within the steps.

Nothing that both sides know is in the bytes, of which there are always as many for a schema:

    8   tag: the form and the schema
    ..  scales: bf16, one for each BLOCK entries of all tensors in the order of their names, the last block with zeros
    ..  steps plus 8: two entries a byte, the first in the low half; 0 is refused, since nothing writes it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.codec import _coded as coded
from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.codec._bf16_bits import above, are_scales, bits_of, values_of
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

FORM: Final = "int4 1"
BLOCK: Final = 32  # entries that share a scale: part of the format
LEVELS: Final = 7  # steps from zero to the largest magnitude of a block
ZERO: Final = 8  # the half-byte of no step
TINY: Final = 2.0**-130  # a scale that is denormal in bf16 is off by up to 2^-133, which seven steps carry this far


@dataclass(frozen=True, slots=True, kw_only=True)
class Int4(Codec):
    """Half a byte an entry and one bf16 scale for every 32: 4.5 bits.

    Error: at most half a step, 1/14 of the largest magnitude in the entry's block and 2^-6 of that for the scale's own
    rounding (2^-130 for denormals).
    """

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Scales, then half-bytes."""
        blocks = _in_blocks(coded.vector(tensors))
        scale = _scales(blocks)
        steps = np.rint(blocks / np.where(scale > 0.0, scale, 1.0)[:, None]).clip(-LEVELS, LEVELS)
        half_bytes = (steps + ZERO).astype(np.uint8).reshape(-1)
        packed = half_bytes[0::2] | half_bytes[1::2] << 4
        return coded.tag(FORM, coded.shapes(tensors)) + bits_of(scale).tobytes() + packed.tobytes()

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Steps times scale, in fp64, then rounded; never beyond the largest fp32."""
        if refusal := coded.unfit(blob, FORM, schema, self.max_bytes(schema)):
            return refusal
        entries = coded.entries(schema)
        blocks = -(-entries // BLOCK)
        scale_bits = np.frombuffer(blob, "<u2", blocks, coded.TAG_BYTES)
        packed = np.frombuffer(blob, np.uint8, -1, coded.TAG_BYTES + 2 * blocks)
        half_bytes = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
        if not are_scales(scale_bits):
            return Refusal("not-finite", "a scale")
        if not half_bytes.all() or (half_bytes[entries:] != ZERO).any():
            return Refusal("malformed", "a step that nothing writes")
        values = (half_bytes.astype(np.float64) - ZERO) * np.repeat(values_of(scale_bits), BLOCK)
        return coded.tensors_of(values[:entries], schema)

    def max_bytes(self, schema: Schema) -> int:
        """Every blob of a schema has the same length."""
        return coded.TAG_BYTES + -(-coded.entries(schema) // BLOCK) * (2 + BLOCK // 2)

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Of a tensor that is the whole update."""
        return self.error_bounds({"": tensor})[""]

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Half a step of the entry's block."""
        import torch

        largest = np.abs(_in_blocks(coded.vector(tensors))).max(axis=1, initial=0.0)
        half = np.repeat(largest / (2 * LEVELS) * (1.0 + 2.0**-6) + TINY, BLOCK)
        return {name: torch.from_numpy(part) for name, part in coded.split(half, coded.shapes(tensors)).items()}


def _scales(blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(blocks,): the largest magnitude over LEVELS, rounded up to a bf16 unless there is none above."""
    wanted = np.abs(blocks).max(axis=1, initial=0.0) / LEVELS
    near = values_of(bits_of(wanted))
    return np.where(near < wanted, above(near), near)


def _in_blocks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(blocks, BLOCK); the last block is filled with zeros."""
    return np.pad(values, (0, -len(values) % BLOCK)).reshape(-1, BLOCK)
