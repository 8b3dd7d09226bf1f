"""replay: of a peer that trains without gradients, the steps since its last key frame, at four bytes each.

A step of MeZO is a number (`p2pfinetune.mezo`): the amount by which every entry is moved along signs that follow from
the seed and the number of the step. So what came of any number of steps since a blob that the receiver has is that
blob and their amounts; the receiver takes the same steps and comes to the same bits on any device. D-MeZO and FedKSeed
(arXiv 2312.06353) send training so; theirs is 16 bytes a round and neighbour, and a receiver applies it to its own
weights, where here it is applied to what the sender's were.

    difference   version, 1 byte: 1      seed, 8      first step, 4      directions a step, 1      rank, 2
                 decay, 4: in 2^-24      then of each direction of each step its amount, 4, signed, in units of 2^-20
                 all little-endian, nothing before or behind
    key frame    the blob of `int8`, to the byte

Only steps can be told so. A merge that was kept is none, nor is a start, a change of text, or a step by gradients:
then the next update is a key frame. A network in which every round merges gains nothing by this codec over `int8`.

A list of steps costs its receiver time, so it is bounded before any is taken: by number, by the work of number times
entries, and by the size of a key frame, beyond which a key frame is the better choice anyway.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from p2pfinetune.codec._base import Codec, DifferenceCodec, Schema
from p2pfinetune.mezo.steps import StepList, replayed
from p2pfinetune.names import Refusal

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
HEAD = struct.Struct("<BQIBHI")
AMOUNT = np.dtype("<i4")
MOST_DIRECTIONS = 4096
MOST_WORK = 1 << 29  # entries moved in all: about a second of one core
KEY_FRAMES = "int8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(DifferenceCodec):
    """Steps without gradients as four bytes each, since a key frame, which is written as `int8` does; for `mezo`.

    After a merge, and from a trainer with gradients, every update is a key frame. Error: that of the key frame, and
    2^-21 for rounding it to the grid of steps.
    """

    key_every: int = 64

    def encode(self, tensors: Mapping[str, Tensor]) -> bytes:
        """As `int8`."""
        return _key_frames().encode(tensors)

    def decode(self, blob: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
        """As `int8`."""
        return _key_frames().decode(blob, schema)

    def max_bytes(self, schema: Schema) -> int:
        """That of a key frame: a longer list is never sent."""
        return _key_frames().max_bytes(schema)

    def error_bound(self, tensor: Tensor) -> Tensor:
        """Of a key frame."""
        return _key_frames().error_bound(tensor)

    def encode_difference(self, tensors: Mapping[str, Tensor], base: Mapping[str, Tensor], turn: int = 1) -> None:
        """Never: tensors do not tell by what steps they came about."""

    def encode_steps(self, steps: StepList, schema: Schema) -> bytes | None:
        """None for more of them than a receiver would take."""
        head = HEAD.pack(VERSION, steps.seed, steps.first, steps.samples, steps.rank, steps.decay)
        blob = head + np.array(steps.amounts, AMOUNT).tobytes()
        return None if isinstance(self._read(blob, schema), Refusal) else blob

    def decode_difference(self, blob: bytes, schema: Schema, base: Mapping[str, Tensor]) -> dict[str, Tensor] | Refusal:
        """The steps taken from there, by whole numbers."""
        import torch

        steps = self._read(blob, schema)
        if isinstance(steps, Refusal):
            return steps
        ended = replayed({name: base[name].numpy() for name in schema}, steps)
        return {name: torch.from_numpy(values) for name, values in ended.items()}

    def _read(self, blob: bytes, schema: Schema) -> StepList | Refusal:
        """The list, or why it is none that is taken; nothing is computed for it."""
        if len(blob) > self.max_bytes(schema):
            return Refusal("oversize", f"{len(blob)} bytes, at most {self.max_bytes(schema)}")
        count, rest = divmod(len(blob) - HEAD.size, AMOUNT.itemsize)
        if count < 1 or rest or blob[0] != VERSION:
            return Refusal("malformed", f"{len(blob)} bytes are no list of steps")
        entries = sum(map(math.prod, schema.values()))
        if count > MOST_DIRECTIONS or count * entries > MOST_WORK:
            return Refusal("oversize", f"{count} steps of {entries} entries")
        _, seed, first, samples, rank, decay = HEAD.unpack_from(blob)
        if rank > min(_rank(name, shape) for name, shape in schema.items()):
            return Refusal("shape", f"steps of rank {rank}")
        amounts = tuple(np.frombuffer(blob, AMOUNT, count, HEAD.size).tolist())
        try:
            return StepList(seed=seed, first=first, samples=samples, rank=rank, decay=decay, amounts=amounts)
        except ValueError as error:
            return Refusal("malformed", str(error))


def _rank(name: str, shape: tuple[int, ...]) -> int:
    return shape[1] if name.endswith(".lora_B") else shape[0]


def _key_frames() -> Codec:
    from p2pfinetune.codec import CODECS

    return CODECS.make(KEY_FRAMES)
