"""What a codec is: named fp32 tensors to bytes and back, with an error bound that is stated and tested.

Bytes come from strangers, so the receiver says what it expects: `schema` is known from the network alone, and
`max_bytes` follows from it before anything is fetched. `decode` checks size, names, shapes and dtypes against it before
it allocates, and answers with a `Refusal` instead of raising.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.mezo.steps import StepList

Schema = Mapping[str, tuple[int, ...]]
"""Tensor name to shape: what an update of this network must hold, no more and no less. The same at all its peers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(ABC):
    """One way to write tensors as bytes."""

    @abstractmethod
    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """The tensors as bytes; the same tensors always give the same bytes."""

    @abstractmethod
    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """fp32 tensors on the CPU, exactly those of `schema`; a `Refusal` for anything else.

        Finite they are not yet: `round.update.inspect` looks at values, whatever the codec.
        """

    @abstractmethod
    def max_bytes(self, schema: Schema) -> int:
        """No valid blob of this schema is longer, in bytes; known before one is fetched, so a longer one never is."""

    @abstractmethod
    def error_bound(self, tensor: Tensor) -> Tensor:
        """Largest absolute error of each entry after encode and decode; same shape as `tensor`."""

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same of tensors that are written together: some codecs have one step for all of them."""
        return {name: self.error_bound(tensor) for name, tensor in tensors.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceCodec(Codec):
    """A codec whose blobs may be differences to an earlier blob of the same peer and codec, its *base*.

    `encode` and `decode` are of *key frames*: blobs that say all by themselves. Only those are bases, so that who has
    two blobs has everything. What is written is always the difference to what receivers hold: the base as it was
    *decoded*. Whatever an earlier blob left out or rounded is in the next difference, so that no error is carried
    on and nothing has to be kept beside the key frame.

    `max_bytes` holds for key frames and for differences.
    """

    key_every: int = 16
    """Publications from one key frame to the next: who comes late, or has lost a base, waits no longer than that."""

    def encode_steps(self, steps: StepList, schema: Schema) -> bytes | None:
        """How the sender came from its key frame here, if that is only steps; None: tell it by tensors."""
        del steps, schema
        return None

    @abstractmethod
    def encode_difference(
        self, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], turn: int = 1
    ) -> bytes | None:
        """The tensors as a difference to a decoded key frame; None: a key frame is the better choice.

        `turn`: publications since the key frame, itself included. A codec may err another way in each.
        """

    @abstractmethod
    def decode_difference(self, blob: bytes, schema: Schema, base: Mapping[str, Tensor]) -> dict[str, Tensor] | Refusal:
        """The other half: as `decode`. `base` has the schema's names and shapes, and is finite."""
