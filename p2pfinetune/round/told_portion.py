"""Which portion of an adapter an update tells: a few bytes in front of what the codec wrote.

Only networks whose devices work by turns have it (`model.portion`); in all others every update holds all that is
shared, and its bytes are the codec's alone.

    alternate   1 byte: "A" or "B", the factor that is told
    sketch      2 bytes, little-endian: k, how many components of each target are told, 1 to the rank r;
                then for each target, in the order of the module paths, ceil(r / 8) bytes: bit c of them, lowest bit of
                the first byte first, says whether component c is told. k bits are set, and none beyond r

An explicit set, and no seed from which others would draw it: a peer may choose its components as it likes, and nobody
has to agree with it on a generator. It costs a byte a target at rank 8, where a component costs some hundred.

It comes from a stranger: its length follows from the schema, and whatever is odd is a `Refusal`.
"""

from __future__ import annotations

from collections.abc import Mapping

from p2pfinetune.model.portion import Portion
from p2pfinetune.names import Refusal, Sharing

COUNT_BYTES = 2
Schema = Mapping[str, tuple[int, ...]]


def portion_bytes(sharing: Sharing, schema: Schema) -> int:
    """Length of the preface in a network of this sharing, whose updates may hold all of `schema`."""
    if sharing == "sketch":
        return COUNT_BYTES + len(_paths(schema)) * _mask_bytes(schema)
    return int(sharing == "alternate")


def write_portion(portion: Portion | None, schema: Schema) -> bytes:
    """The preface; nothing if all is told."""
    if portion is None:
        return b""
    if portion.factor is not None:
        return portion.factor.upper().encode()
    masks = [sum(1 << c for c in portion.components[path]) for path in _paths(schema)]
    count = masks[0].bit_count().to_bytes(COUNT_BYTES, "little")
    return count + b"".join(mask.to_bytes(_mask_bytes(schema), "little") for mask in masks)


def read_portion(blob: bytes, sharing: Sharing, schema: Schema) -> Portion | Refusal | None:
    """Of a blob of such a network, what portion it says it tells; None if all."""
    size = portion_bytes(sharing, schema)
    if not size:
        return None
    if len(blob) < size:
        return Refusal("malformed", f"{len(blob)} bytes do not say which portion they tell")
    return _factor(blob[:1]) if sharing == "alternate" else _components(blob[:size], schema)


def largest_portion(sharing: Sharing, schema: Schema) -> Portion | None:
    """As much as an update of such a network can tell; None: all."""
    if sharing == "alternate":
        return Portion("b")
    every = tuple(range(_rank(schema)))
    return Portion(components=dict.fromkeys(_paths(schema), every)) if sharing == "sketch" else None


def _factor(told: bytes) -> Portion | Refusal:
    if told == b"A":
        return Portion("a")
    return Portion("b") if told == b"B" else Refusal("malformed", "it tells neither A nor B")


def _components(told: bytes, schema: Schema) -> Portion | Refusal:
    rank, each = _rank(schema), _mask_bytes(schema)
    count = int.from_bytes(told[:COUNT_BYTES], "little")
    if not 1 <= count <= rank:
        return Refusal("schema", f"{count} components of {rank}")
    found: dict[str, tuple[int, ...]] = {}
    for place, path in enumerate(_paths(schema)):
        mask = int.from_bytes(told[COUNT_BYTES + place * each :][:each], "little")
        if mask >> rank or mask.bit_count() != count:
            return Refusal("schema", f"the components of {path} are not {count} of {rank}")
        found[path] = tuple(c for c in range(rank) if mask >> c & 1)
    return Portion(components=found)


def _paths(schema: Schema) -> list[str]:
    return sorted({name.rpartition(".")[0] for name in schema})


def _rank(schema: Schema) -> int:
    return next(shape[0] for name, shape in schema.items() if name.endswith(".lora_A"))


def _mask_bytes(schema: Schema) -> int:
    return -(-_rank(schema) // 8)
