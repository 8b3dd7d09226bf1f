"""What codecs share whose key frames and differences are both numbers of steps, in the container of `_coded`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.codec import _coded as container
from p2pfinetune.codec._base import DifferenceCodec, Schema
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelledCodec(DifferenceCodec):
    """A codec says how long its steps are, and perhaps how it writes and reads them; what it tells of a difference."""

    KEY: ClassVar[str]
    """The form's name of key frames: part of the format, as the other."""
    DIFFERENCE: ClassVar[str]

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """A key frame."""
        values = container.vector(tensors)
        blob = self._write(self.KEY, tensors, values, self._step(values))
        assert blob is not None, "an entry is no more root mean squares than there are entries"
        return blob

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """Numbers times step."""
        values = self._read(self.KEY, blob, schema)
        return values if isinstance(values, Refusal) else container.tensors_of(values, schema)

    def decode_difference(self, blob: bytes, schema: Schema, base: Mapping[str, Tensor]) -> dict[str, Tensor] | Refusal:
        """The base, and numbers times step."""
        values = self._read(self.DIFFERENCE, blob, schema)
        return values if isinstance(values, Refusal) else container.tensors_of(values + container.vector(base), schema)

    def max_bytes(self, schema: Schema) -> int:
        """Head, tables, and at most 8.5 bits an entry."""
        return container.max_bytes(schema)

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Of a key frame that is this tensor alone."""
        return self.error_bounds({"": tensor})[""]

    def error_bounds(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of a key frame: half a step of the entry's group, and what fp32 cannot say of it."""
        values = container.vector(tensors)
        return container.bounds(tensors, values, self._step(values))

    @abstractmethod
    def _step(self, values: container.Values) -> float:
        """Of a key frame that holds these."""

    def _write(
        self, form: str, tensors: Mapping[str, Tensor], values: container.Values, step: float, turn: int = 0
    ) -> bytes | None:
        """Whatever the turn; None if they are beyond all bounds of this step."""
        del turn
        return container.write(form, container.shapes(tensors), values, step)

    def _read(self, form: str, blob: bytes, schema: Schema) -> container.Values | Refusal:
        """What `_write` rounded to."""
        return container.read(form, schema, blob)
