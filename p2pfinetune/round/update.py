"""What a peer shares: its adapter relative to the seeded start, as bytes; and the inspection of such bytes from others.

The start is known to every peer of the network, so a late joiner needs no history, and a peer that was away for a week
has missed nothing (docs/adr/0005). Relative to it, since entries of a delta are small and centred at zero, which codecs
with few bits want, and since how far a peer has come is what norms and cosines of updates ask about.

Nothing is taken on trust: an update is a value only after every check, and what fails a check is a `Refusal` with one
counted word. The checks are in the order of what they cost and of what the next one relies on:

    bytes -> codec known? -> size -> container -> names, shapes, dtypes -> finite? -> norm -> LoraUpdate

In some networks devices work by turns (`model.portion`), and an update tells the portion of its round alone; in front
of the codec's bytes stands which (`told_portion`). What it does not tell is, at me, mine as well.

A network may share one factor of each target alone (`AdapterSpec.sharing`). Then the other one is not in the update at
all, an update that holds it is refused (`schema`) before a tensor is made of it, and a neighbour's adapter is, at me,
what it shares beside what I keep for myself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from p2pfinetune.codec import CODECS, Codec, DifferenceCodec, Schema
from p2pfinetune.mezo.steps import StepList
from p2pfinetune.model.adapter import Adapter, FactorSet
from p2pfinetune.model.portion import Portion
from p2pfinetune.names import Refusal, Sharing
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.told_portion import portion_bytes, read_portion, write_portion

REASONS = ("codec", "base", "oversize", "malformed", "schema", "shape", "dtype", "not-finite", "norm")


@dataclass(frozen=True, slots=True, eq=False)
class LoraUpdate:
    """How far what a peer shares has come from the seeded start: A minus its initial A, and B, or one of the two."""

    delta: FactorSet
    portion: Portion | None = None
    """What of the adapter it tells; None: all that the network shares."""

    def adapter(self, initial: Adapter, mine: Adapter | None = None) -> Adapter:
        """The peer's adapter as I can run it: what it does not share is mine, or else the start's."""
        kept, delta = (mine or initial).tensors, self.delta.tensors
        if self.portion is not None:
            told = {name: tensor + delta[name] for name, tensor in self.portion.taken(initial.tensors).items()}
            return Adapter(self.portion.put(kept, told))
        return Adapter({n: t + _fitting(delta[n], t) if n in delta else kept[n] for n, t in initial.tensors.items()})


Hide = Callable[[FactorSet], FactorSet]
"""What happens to a delta before it is encoded, see `privacy.privatised`."""
ALL_SHARED = AdapterSpec()


def moved(adapter: Adapter, initial: Adapter, spec: AdapterSpec = ALL_SHARED) -> FactorSet:
    """How far the factors that are shared have come from the seeded start: all that any other peer is told of."""
    start = initial.tensors
    return FactorSet({name: t - start[name] for name, t in adapter.tensors.items() if spec.shares(name)})


def encode_update(
    own: Adapter,
    initial: Adapter,
    codec: Codec,
    hide: Hide | None = None,
    spec: AdapterSpec = ALL_SHARED,
    portion: Portion | None = None,
) -> bytes:
    """The bytes of a key frame; the same adapter always gives the same bytes, unless `hide` draws noise."""
    return written(told(own, initial, hide, spec, portion), codec, initial.schema, None, portion).blob


@dataclass(frozen=True, slots=True)
class Written:
    """An update as bytes."""

    blob: bytes
    is_difference: bool = False
    """To the key frame that it was written from; else it is a key frame itself."""


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A blob that was published, to which the next one may be a difference."""

    blob: bytes
    publications: int
    """Since it, itself included."""


def written(
    delta: FactorSet,
    codec: Codec,
    schema: Schema,
    key: KeyFrame | None = None,
    portion: Portion | None = None,
    steps: StepList | None = None,
) -> Written:
    """The bytes that others fetch; the same delta and key frame always give the same bytes.

    A key frame that cannot be read here (an earlier version's) is like none: the next one is written. A portion is
    never a difference, since the last one was another. `steps`: what led from the key frame here, if nothing else did.
    """
    if portion is not None:
        return Written(write_portion(portion, schema) + codec.encode(delta.tensors))
    if key is not None and isinstance(codec, DifferenceCodec) and key.publications < codec.key_every:
        if steps is not None and (told_steps := codec.encode_steps(steps, schema)) is not None:
            return Written(told_steps, is_difference=True)
        base = _decoded_base(codec, key.blob, schema)
        if not isinstance(base, Refusal):
            blob = codec.encode_difference(delta.tensors, base, key.publications)
            if blob is not None:
                return Written(blob, is_difference=True)
    return Written(codec.encode(delta.tensors))


def told(
    own: Adapter,
    initial: Adapter,
    hide: Hide | None = None,
    spec: AdapterSpec = ALL_SHARED,
    portion: Portion | None = None,
) -> FactorSet:
    """What others hear: of the portion, hidden by `hide`, then zeros for components that only others have."""
    delta = moved(own, initial, spec)
    delta = delta if portion is None else FactorSet(portion.taken(delta.tensors))
    delta = delta if hide is None else hide(delta)
    if spec.held_rank == spec.rank:
        return delta
    return FactorSet({name: _of_rank(spec.rank, name, t) for name, t in delta.tensors.items()})


def _of_rank(rank: int, name: str, tensor: Tensor) -> Tensor:
    rows, columns = tensor.shape
    return pad(tensor, (0, 0, 0, rank - rows) if name.endswith(".lora_A") else (0, rank - columns))


def _fitting(told: Tensor, mine: Tensor) -> Tensor:
    """The components that this device has too: the upper left corner."""
    return told[: mine.shape[0], : mine.shape[1]]


def with_own_kept(merged: Adapter, own: Adapter, spec: AdapterSpec) -> Adapter:
    """What is not shared stays as it was, to the bit; the same object if all is shared."""
    if spec.sharing == "both":
        return merged
    new = merged.tensors
    return Adapter({name: new[name] if spec.shares(name) else mine for name, mine in own.tensors.items()})


def largest_blob(codec: Codec, schema: Schema, sharing: Sharing = "both") -> int:
    """Bytes of an update that tells all that there is; no valid one is longer."""
    return portion_bytes(sharing, schema) + codec.max_bytes(schema)


def largest_blobs(schema: Schema, sharing: Sharing) -> dict[str, int]:
    """The same by the name of each codec."""
    return {name: largest_blob(CODECS.make(name), schema, sharing) for name in CODECS.names()}


def inspect(
    blob: bytes,
    codec_name: str,
    schema: Schema,
    *,
    max_norm: float,
    base: bytes | None = None,
    sharing: Sharing = "both",
) -> LoraUpdate | Refusal:
    """Size, portion, decode, schema, shape, dtype, finite, norm, in that order. `max_norm` bounds the delta's norm.

    `base`: the key frame that the blob is a difference to. It passes the same checks first, but for the norm.
    Never raises because of what is in `blob`, `base` or `codec_name`: all come from a stranger.
    """
    if codec_name not in CODECS.names():
        return Refusal("codec", f"{codec_name[:40]!r} is not known here")
    codec = CODECS.make(codec_name)
    if len(blob) > largest_blob(codec, schema, sharing):
        return Refusal("oversize", f"{len(blob)} bytes, at most {largest_blob(codec, schema, sharing)}")
    portion = read_portion(blob, sharing, schema)
    if isinstance(portion, Refusal):
        return portion
    if portion is not None:
        if base is not None:
            return Refusal("base", "a portion is never a difference")
        schema, blob = portion.schema(schema), blob[portion_bytes(sharing, schema) :]
    tensors = codec.decode(blob, schema) if base is None else _of_difference(codec, blob, schema, base)
    if isinstance(tensors, Refusal):
        return tensors
    if refusal := _check_kind(tensors, schema) or _check_finite(tensors):
        return refusal
    delta = FactorSet(tensors)
    norm = delta.norm()
    if not norm <= max_norm:
        return Refusal("norm", f"{norm:.3g}, at most {max_norm:.3g}")
    return LoraUpdate(delta, portion)


def _of_difference(codec: Codec, blob: bytes, schema: Schema, base: bytes) -> dict[str, Tensor] | Refusal:
    if not isinstance(codec, DifferenceCodec):
        return Refusal("base", "a difference, of a codec that knows none")
    known = _decoded_base(codec, base, schema)
    return known if isinstance(known, Refusal) else codec.decode_difference(blob, schema, known)


def _decoded_base(codec: Codec, base: bytes, schema: Schema) -> dict[str, Tensor] | Refusal:
    if len(base) > codec.max_bytes(schema):
        return Refusal("base", f"oversize: {len(base)} bytes, at most {codec.max_bytes(schema)}")
    tensors = codec.decode(base, schema)
    refusal = tensors if isinstance(tensors, Refusal) else _check_kind(tensors, schema) or _check_finite(tensors)
    return tensors if not isinstance(refusal, Refusal) else Refusal("base", f"{refusal.reason}: {refusal.detail}")


def _check_kind(tensors: dict[str, Tensor], schema: Schema) -> Refusal | None:
    """A codec gives what it was asked for; this holds for codecs that somebody adds, too."""
    if tensors.keys() != schema.keys():
        return Refusal("schema", f"{len(tensors.keys() ^ schema.keys())} names differ")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != tuple(schema[name]):
            return Refusal("shape", f"{name} is {list(tensor.shape)}, not {list(schema[name])}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            return Refusal("dtype", f"{name} is {tensor.dtype}")
    return None


def _check_finite(tensors: dict[str, Tensor]) -> Refusal | None:
    odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    return Refusal("not-finite", f"{len(odd)} tensors, such as {odd[0]}") if odd else None


def default_max_norm(schema: Schema) -> float:
    """Root mean square of one per entry, as a bound on the norm of an update.

    An entry moves by about the learning rate in a step of AdamW, at most: at 2e-3, one is five hundred steps that all
    point the same way, and trained adapters measure some hundredths. This is a check against absurd values, before
    anything is computed with them; whether an update does good is for the trust scheme and the guard to find out.
    """
    return math.sqrt(sum(math.prod(shape) for shape in schema.values()))
