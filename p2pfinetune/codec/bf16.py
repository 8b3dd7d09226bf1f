"""bf16, the default codec: half the bytes of fp32 for an error that training does not notice.

bf16 is fp32 without its last 16 bits: the same range, 8 significant bits instead of 24. fp16 would be more exact for
entries of usual size and lose small ones: a delta begins at zero and has entries of every magnitude.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.codec._container import blob_limit, must_be_finite, open_blob, same_dtype, write_blob
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BFloat16(Codec):
    """Two bytes an entry: fp32 rounded to nearest.

    Error: at most 2^-8 of the entry's magnitude, plus 2^-134 where it is denormal.
    """

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """Entries beyond the largest bf16 become the largest bf16, not infinite."""
        import torch

        must_be_finite(tensors)
        largest = torch.finfo(torch.bfloat16).max
        return write_blob({name: t.float().clamp(-largest, largest).bfloat16() for name, t in tensors.items()})

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Exact: every bf16 is an fp32."""
        opened = open_blob(blob, same_dtype(schema, "BF16", 2))
        return opened if isinstance(opened, Refusal) else {name: t.float() for name, t in opened.items()}

    def max_bytes(self, schema: Schema) -> int:
        """Header and two bytes an entry."""
        return blob_limit(same_dtype(schema, "BF16", 2))

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Half a unit in the last of 8 significant bits, in fp64."""
        return tensor.double().abs() * 2.0**-8 + 2.0**-134
