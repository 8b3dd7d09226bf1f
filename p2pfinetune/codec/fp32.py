"""fp32: the exact codec, for measuring what the others lose and for reproducing a run to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.codec._base import Codec, Schema
from p2pfinetune.codec._container import blob_limit, open_blob, same_dtype, write_blob
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Float32(Codec):
    """Four bytes an entry, nothing lost. Error: none."""

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """As they are."""
        return write_blob({name: tensor.float() for name, tensor in tensors.items()})

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """As they were."""
        return open_blob(blob, same_dtype(schema, "F32", 4))

    def max_bytes(self, schema: Schema) -> int:
        """Header and four bytes an entry."""
        return blob_limit(same_dtype(schema, "F32", 4))

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Zero, in fp64."""
        return tensor.double() * 0.0
