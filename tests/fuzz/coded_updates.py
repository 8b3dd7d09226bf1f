"""Targets: blobs that hold no names, and differences to a base; and bases that are no key frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from random import Random

import torch

from p2pfinetune.codec import CODECS, DifferenceCodec, difference_codecs
from p2pfinetune.codec import _coded as coded
from p2pfinetune.names import Refusal
from p2pfinetune.round.update import REASONS, LoraUpdate, inspect
from tests.fuzz import mutate
from tests.fuzz.target import Mutator, Target

HEADLESS = ("int4", "levels", "lora-quant", "lora-quant-2", "top-k")
SCHEMA = {"a.lora_A": (3, 50), "a.lora_B": (40, 3), "b.lora_A": (1, 1), "b.lora_B": (300, 1)}
MAX_NORM = 1e4
MAX_BASE = 2  # bytes of the length of a base that stands before a difference

Tensors = dict[str, torch.Tensor]


def drawn(seed: int, scale: float = 1.0) -> Tensors:
    """As no update is quite."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in SCHEMA.items()}


def check(found: LoraUpdate | Refusal, data: bytes, name: str) -> None:
    """A refusal with a word that is known, or an update of the schema, finite, that can be written."""
    if isinstance(found, Refusal):
        assert found.reason in REASONS
        assert len(found.detail) < 400
        return
    codec, tensors = CODECS.make(name), found.delta.tensors
    assert len(data) <= codec.max_bytes(SCHEMA)
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == SCHEMA
    assert all(tensor.dtype == torch.float32 and bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    assert found.delta.norm() <= MAX_NORM
    again = codec.decode(codec.encode(tensors), SCHEMA)
    assert not isinstance(again, Refusal)
    bounds = codec.error_bounds(tensors)
    for key, tensor in tensors.items():
        assert bool(((again[key].double() - tensor.double()).abs() <= bounds[key]).all())


def whole(name: str) -> Callable[[bytes], None]:
    return lambda data: check(inspect(data, name, SCHEMA, max_norm=MAX_NORM), data, name)


def differing(name: str) -> Callable[[bytes], None]:
    """Two bytes of length, a base, and what is to be a difference to it."""

    def run(data: bytes) -> None:
        length = int.from_bytes(data[:MAX_BASE], "little")
        base, blob = data[MAX_BASE : MAX_BASE + length], data[MAX_BASE + length :]
        check(inspect(blob, name, SCHEMA, max_norm=MAX_NORM, base=base), blob, name)

    return run


def seeds(name: str) -> Callable[[], Iterator[bytes]]:
    """Honest ones, and some that break a rule."""

    def made() -> Iterator[bytes]:
        codec = CODECS.make(name)
        good = codec.encode(drawn(1))
        yield good
        yield codec.encode({key: torch.zeros(shape) for key, shape in SCHEMA.items()})
        yield codec.encode(drawn(1, 1e30))
        yield codec.encode({key: tensor.exp().pow(20) for key, tensor in drawn(2).items()})
        yield from (good[:-1], good + b"\0", good[:8], good[:17], b"")
        yield good[:8] + struct.pack("<f", float("inf")) + good[12:]
        yield good[:13] + b"\xff" * 4 + good[17:]  # a stream of four gigabytes

    return made


def seeds_of_differences(name: str) -> Callable[[], Iterator[bytes]]:
    """To a base, to none, to another, and to one that is a difference itself."""

    def made() -> Iterator[bytes]:
        codec = CODECS.make(name)
        assert isinstance(codec, DifferenceCodec)
        key = codec.encode(drawn(1))
        base = codec.decode(key, SCHEMA)
        assert not isinstance(base, Refusal)
        later = {name: tensor + 0.05 * drawn(3)[name] for name, tensor in drawn(1).items()}
        blob = codec.encode_difference(later, base)
        assert blob is not None
        for first, second in (
            (key, blob),
            (b"", blob),
            (key, key),
            (blob, blob),
            (key[:-1], blob),
            (key, blob + b"\0"),
        ):
            yield len(first).to_bytes(MAX_BASE, "little") + first + second

    return made


def mutator() -> Mutator:
    """What stands behind the tag, most often: another tag is another form, and nothing of it is read."""
    anything = mutate.plain()

    def change(data: bytes, dice: Random) -> bytes:
        kept = dice.choice((0, coded.TAG_BYTES, coded.TAG_BYTES, coded.HEAD.size, coded.HEAD.size + 8))
        return data[:kept] + anything(data[kept:], dice)

    return change


def _warmed() -> tuple[str, ...]:
    """The tables of the entropy coder are made once, and by no input."""
    for name in HEADLESS:
        whole(name)(CODECS.make(name).encode(drawn(1)))
    return HEADLESS


TARGETS = (
    *(
        Target(name=f"update-{name}", run=whole(name), seeds=seeds(name), max_bytes=2048, mutate=mutator())
        for name in _warmed()
    ),
    *(
        Target(
            name=f"difference-{name}",
            run=differing(name),
            seeds=seeds_of_differences(name),
            max_bytes=4096,
            mutate=mutate.framed(mutator(), width=MAX_BASE, order="little"),
        )
        for name in HEADLESS
        if name in difference_codecs()
    ),
)
