"""int8: a quarter of the bytes of fp32, by symmetric steps of one scale for every 64 entries.

One scale for a whole tensor would be set by its largest entry, and round most others to zero; blocks keep an outlier's
harm to its neighbours, as in blockwise quantisation of optimizer states (Dettmers et al. 2022, arXiv 2110.02861). A
scale costs 4 bytes in 64, so an entry takes 8.5 bits. Linear steps, since the error bound is then half a step for every
entry.

In the container a tensor `NAME` (its shape, I8) is followed by `NAME.scale` (F32, one a block of the flattened tensor,
the last block filled with zeros). Scales are finite or the update is refused; steps are any 8 bits and need no check.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.codec._container import Part, blob_limit, open_blob, write_blob
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64  # entries that share a scale; part of the format, so no option: peers must agree on it
LEVELS = 127  # steps from zero to the largest magnitude of a block
SCALE = ".scale"
SLACK = 1.0 + 2.0**-15  # an fp32 scale is off by 2^-24 of itself, which 127 steps carry to 2^-16 of half a step
TINY = 2.0**-142  # a denormal scale is off by up to 2^-150, which 127 steps carry this far


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8(Codec):
    """One byte an entry and one fp32 scale for every 64, which is the largest magnitude of the block over 127.

    Error: at most half a step, which is 1/254 of the largest magnitude in the entry's block (and 2^-142 for denormals).
    """

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Each tensor as `NAME` (its shape) and `NAME.scale` (one a block of the flattened tensor)."""
        import torch

        stored: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            blocks = _in_blocks(tensor)
            scale = (blocks.abs().amax(dim=1) / LEVELS).float()
            safe = torch.where(scale > 0, scale, torch.ones_like(scale)).double()
            steps = (blocks / safe[:, None]).round().clamp(-LEVELS, LEVELS)
            steps = torch.where(scale[:, None] > 0, steps, torch.zeros_like(steps))
            stored[name] = steps.flatten()[: tensor.numel()].reshape(tensor.shape).to(torch.int8)
            stored[name + SCALE] = scale
        return write_blob(stored)

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Steps times scale, in fp64, then rounded; never beyond the largest fp32."""
        import torch

        opened = open_blob(blob, _parts(schema))
        if isinstance(opened, Refusal):
            return opened
        largest = torch.finfo(torch.float32).max
        tensors: dict[str, Tensor] = {}
        for name, shape in schema.items():
            scale = opened[name + SCALE]
            if not bool(torch.isfinite(scale).all()):
                return Refusal("not-finite", f"a scale of {name}")
            values = _in_blocks(opened[name]) * scale.double()[:, None]
            flat = values.clamp(-largest, largest).float().flatten()[: math.prod(shape)]
            tensors[name] = flat.reshape(shape)
        return tensors

    def max_bytes(self, schema: Schema) -> int:
        """Header, one byte an entry, four a block."""
        return blob_limit(_parts(schema))

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Half a step of the entry's block, in fp64."""
        import torch

        half = _in_blocks(tensor).abs().amax(dim=1, keepdim=True) / (2 * LEVELS) * SLACK + TINY
        flat = half.repeat_interleave(BLOCK, dim=1).flatten()[: tensor.numel()]
        return flat.reshape(tensor.shape).to(torch.float64)


def _in_blocks(tensor: Tensor) -> Tensor:
    """(blocks, BLOCK) in fp64; the last block is filled with zeros."""
    import torch

    flat = tensor.reshape(-1).double()
    return torch.nn.functional.pad(flat, (0, -flat.numel() % BLOCK)).reshape(-1, BLOCK)


def _parts(schema: Schema) -> dict[str, Part]:
    parts = {}
    for name, shape in schema.items():
        parts[name] = Part("I8", 1, tuple(shape))
        parts[name + SCALE] = Part("F32", 4, (-(-math.prod(shape) // BLOCK),))
    return parts
