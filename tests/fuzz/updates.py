"""Targets: the blobs of updates, one a codec. What is taken is finite, is of the schema exactly, and can be written."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch

from p2pfinetune.codec import CODECS
from p2pfinetune.codec._container import LENGTH_BYTES
from p2pfinetune.codec.replay import HEAD, Replay
from p2pfinetune.mezo.steps import StepList
from p2pfinetune.names import Refusal
from p2pfinetune.round.update import REASONS, LoraUpdate, inspect
from tests.fuzz import mutate
from tests.fuzz.target import Mutator, Target

# Many small tensors before a large one: their offsets are short, which leaves a stranger the most room in the header.
SCHEMA = {f"{path}.lora_{factor}": (1, 1) for path in "abcdef" for factor in "AB"} | {
    "g.lora_A": (1, 2),
    "g.lora_B": (300, 1),
}
MAX_NORM = 1e4
MAX_HEADER = 2048  # no codec allows a header of this schema so much
_load = safetensors.torch.load
KINDS = {"fp32": ("F32", 4), "bf16": ("BF16", 2)}
WORDS = [b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b'"F32"', b'"BF16"', b'"I8"', b'"F64"', b"NaN",
         b"Infinity", b"[", b"{", b"true", b"-0", b"1e9", *(name.encode() for name in SCHEMA)]  # fmt: skip
NAMES = ["dtype", "shape", "data_offsets", "__metadata__", *SCHEMA, *(f"{name}.scale" for name in SCHEMA)]


def inspecting(codec_name: str) -> Callable[[bytes], None]:
    """The target of one codec."""
    codec = CODECS.make(codec_name)

    def load(data: bytes) -> dict[str, torch.Tensor]:
        check_container(data, codec_name)  # before the library sees it
        return _load(data)

    def run(data: bytes) -> None:
        with patch.object(safetensors.torch, "load", load):
            found = inspect(data, codec_name, SCHEMA, max_norm=MAX_NORM)
        if isinstance(found, Refusal):
            assert found.reason in REASONS
            assert len(found.detail) < 400
            assert found.reason in {"malformed", "oversize"} or is_json(data)
            if len(data) >= LENGTH_BYTES and int.from_bytes(data[:LENGTH_BYTES], "little") > MAX_HEADER:
                assert found.reason == "oversize"
            if found.reason == "norm":
                assert all(bool(torch.isfinite(stored).all()) for stored in _load(data).values())
            return
        assert isinstance(found, LoraUpdate)
        assert len(data) <= codec.max_bytes(SCHEMA)
        tensors = found.delta.tensors
        assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == SCHEMA
        assert all(tensor.dtype == torch.float32 and bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
        assert found.delta.norm() <= MAX_NORM
        again = codec.decode(codec.encode(tensors), SCHEMA)
        assert not isinstance(again, Refusal)
        for name, tensor in tensors.items():
            assert bool(((again[name].double() - tensor.double()).abs() <= codec.error_bound(tensor)).all())

    return run


def is_json(data: bytes) -> bool:
    """Whether the header is an object, by a reader that is strict."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    try:
        text = data[LENGTH_BYTES : LENGTH_BYTES + length].decode("utf-8")
        header = json.loads(text, object_pairs_hook=mutate.Pairs, parse_constant=no_constant)
    except (ValueError, RecursionError, AssertionError):
        return False
    return isinstance(header, mutate.Pairs)


def check_container(data: bytes, codec_name: str) -> None:
    """By a reader of our own making: nothing stands twice, nothing overlaps, nothing is left over."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    text = data[LENGTH_BYTES : LENGTH_BYTES + length].decode("utf-8")
    header = json.loads(text, object_pairs_hook=mutate.Pairs, parse_constant=no_constant)
    assert len({name for name, _ in header}) == len(header), "a tensor stands twice"
    reached = 0
    for name, entry in sorted(header, key=lambda pair: dict(pair[1])["data_offsets"]):
        assert len({key for key, _ in entry}) == len(entry) == 3, f"{name}: a key stands twice"
        fields = dict(entry)
        assert all(type(size) is int for size in (*fields["shape"], *fields["data_offsets"])), f"{name}: not a size"
        begin, end = fields["data_offsets"]
        assert begin == reached, f"{name} begins at {begin}, not at {reached}"
        dtype, width = KINDS.get(codec_name) or (("F32", 4) if name.endswith(".scale") else ("I8", 1))
        assert fields["dtype"] == dtype
        assert end - begin == width * math.prod(fields["shape"])
        reached = end
    assert reached == len(data) - LENGTH_BYTES - length


def no_constant(name: str) -> None:
    """A constant that is not JSON."""
    raise AssertionError(f"{name} was taken for JSON")


def mutator() -> Mutator:
    """The header as JSON, with its length; or the numbers behind it."""
    header = mutate.framed(mutate.json_trees(NAMES, WORDS), width=LENGTH_BYTES, order="little")

    def change(data: bytes, dice: Random) -> bytes:
        if dice.random() < 0.2:
            return permuted(data, dice)
        return header(data, dice)

    return change


def permuted(data: bytes, dice: Random) -> bytes:
    """The same tensors in another order, with other offsets: all right, unless one is moved once more."""
    length = min(int.from_bytes(data[:LENGTH_BYTES], "little"), len(data))
    try:
        entries = list(json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length]).items())
        dice.shuffle(entries)
        begin = 0
        for _, entry in entries:
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            entry["data_offsets"] = [begin, begin + size]
            begin += size * dice.choice((1, 1, 1, 1, 1, 1, 0))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return data
    text = json.dumps(dict(entries), separators=(",", ":")).encode().ljust(length)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[LENGTH_BYTES + length :]


def seeding(codec_name: str) -> Callable[[], Iterator[bytes]]:
    """Honest updates, and such as the format forbids."""

    def seeds() -> Iterator[bytes]:
        codec = CODECS.make(codec_name)
        generator = torch.Generator().manual_seed(1)
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in SCHEMA.items()}
        good = codec.encode(tensors)
        yield good
        yield codec.encode({name: torch.zeros_like(tensor) for name, tensor in tensors.items()})
        yield codec.encode({name: tensor * 1e30 for name, tensor in tensors.items()})
        yield good[:-1]
        yield good + b"\0"
        yield good[:-4] + b"\xff" * 4  # no number, in a float
        length = LENGTH_BYTES + int.from_bytes(good[:LENGTH_BYTES], "little")
        yield good[:length] + struct.pack("<f", math.inf) + good[length + 4 :]  # the first float, or scale
        yield b"\xff" * LENGTH_BYTES + good[LENGTH_BYTES:]
        yield (100 * 2**20 + 1).to_bytes(LENGTH_BYTES, "little") + good[LENGTH_BYTES:]
        yield overlapping(good)
        yield with_another_border(good)
        yield from (with_header(good, text) for text in odd_headers(header_of(good)))

    return seeds


def header_of(blob: bytes) -> dict[str, dict[str, Any]]:
    """As the library wrote it."""
    found: dict[str, dict[str, Any]] = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return found


def with_header(blob: bytes, text: str) -> bytes:
    """Padded to the old length where it is shorter."""
    old = int.from_bytes(blob[:8], "little")
    data = text.encode().ljust(old)
    return len(data).to_bytes(8, "little") + data + blob[8 + old :]


def overlapping(blob: bytes) -> bytes:
    """Two tensors of one size share their bytes, and what comes after has moved up: no hole, and nothing is left over."""
    entries = sorted(header_of(blob).items(), key=lambda pair: pair[1]["data_offsets"])
    spans = [entry["data_offsets"] for _, entry in entries]
    place = next(i for i in range(1, len(spans)) if spans[i][1] - spans[i][0] == spans[i - 1][1] - spans[i - 1][0])
    size = spans[place][1] - spans[place][0]
    for _, entry in entries[place:]:
        begin, end = entry["data_offsets"]
        entry["data_offsets"] = [begin - size, end - size]
    return with_header(blob, json.dumps(dict(entries), separators=(",", ":")))[:-size]


def with_another_border(blob: bytes) -> bytes:
    """A tensor has a byte that is its neighbour's."""
    header = header_of(blob)
    first, second, *_ = sorted(header.values(), key=lambda entry: entry["data_offsets"])
    first["data_offsets"][1] += 1
    second["data_offsets"][0] += 1
    return with_header(blob, json.dumps(header, separators=(",", ":")))


def odd_headers(header: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Each breaks one rule of the container, and of its kind the smallest way to break it."""
    names = list(header)
    one = header[names[0]]

    def write(changed: object) -> str:
        return json.dumps(changed, separators=(",", ":"))

    whole = write(header)
    shape = f'"shape":{write(one["shape"])}'
    yield "{" + f"{json.dumps(names[0])}:0," + whole[1:]  # a name twice
    yield whole.replace(shape, f'"shape":0,{shape}', 1)  # a key twice
    yield whole.replace('"dtype":', '"dtype":NaN,"dtype":', 1)
    yield whole.replace('"dtype":', '"dtype":[],"dtype":', 1)
    yield whole.replace(write(one["dtype"]), "NaN", 1)
    yield whole.replace(":", ": ", 1) + " " * 400
    yield whole.replace(shape, '"shape":NaN', 1)
    yield whole.replace(shape, '"shape":[true,1]', 1)
    yield whole.replace(shape, '"shape":[-2,-5]', 1)
    yield write({**header, names[0]: {**one, "shape": [5, 2]}})
    yield write({**header, names[0]: {**one, "dtype": "F64"}})
    yield write({**header, names[0]: {**one, "data_offsets": [0, 2**60]}})
    yield write({name: header[name] for name in names[1:]})
    yield write({**header, "__metadata__": {"a": "b"}})
    by_size: dict[int, list[str]] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        by_size.setdefault(end - begin, []).append(name)
    for alike in by_size.values():
        if len(alike) > 1:
            yield write({**header, alike[0]: {**header[alike[0]], "data_offsets": header[alike[1]]["data_offsets"]}})
    yield "[" * 200
    yield "[]"
    yield "1" * 400


KEY = {name: torch.full(shape, 0.01) for name, shape in SCHEMA.items()}
STEPS = StepList(seed=3, first=1, samples=1, rank=1, decay=9, amounts=(5, -7, 1 << 20))


def replaying(data: bytes) -> None:
    """A list of steps since a key frame: what is taken is a list that can be written, and leads where that leads."""
    codec = Replay()
    found = inspect(data, "replay", SCHEMA, max_norm=MAX_NORM, base=codec.encode(KEY))
    if isinstance(found, Refusal):
        assert found.reason in REASONS
        assert len(found.detail) < 400
        return
    steps = codec._read(data, SCHEMA)
    assert isinstance(steps, StepList)
    assert codec.encode_steps(steps, SCHEMA) == data
    assert found.delta.norm() <= MAX_NORM


def step_lists() -> Iterator[bytes]:
    """Honest ones, and such as nobody writes."""
    codec = Replay()
    good = codec.encode_steps(STEPS, SCHEMA)
    assert good is not None
    yield good
    for odd in ({"samples": 3}, {"decay": 0}, {"seed": (1 << 64) - 1}, {"first": (1 << 32) - 3}, {"amounts": (0,)}):
        told = codec.encode_steps(replace(STEPS, **odd), SCHEMA)
        assert told is not None
        yield told
    yield from (b"", good[:-1], good + b"\0", good[: HEAD.size], good[: HEAD.size] + bytes(4 * 1200))
    yield HEAD.pack(1, 0, 0, 0, 1, 0) + bytes(4)
    yield HEAD.pack(2, 0, 0, 1, 1, 0) + bytes(4)
    yield HEAD.pack(1, 0, 0, 1, 2, 0) + bytes(4)
    yield HEAD.pack(1, 0, 0xFFFFFFFF, 1, 1, 0) + bytes(8)
    yield HEAD.pack(1, 0, 0, 1, 1, 0xFFFFFFFF) + b"\xff\xff\xff\x7f"


def changed_steps(data: bytes, dice: Random) -> bytes:
    """A field of the head, or an amount, is another number."""
    place = dice.choice((0, 1, 9, 13, 14, 16, *range(HEAD.size, max(HEAD.size + 1, len(data)), 4)))
    return data[:place] + dice.randbytes(4) + data[place + 4 :]


TARGETS = (
    *(
        Target(
            name=f"update-{name}", run=inspecting(name), seeds=seeding(name), max_bytes=4096, mutate=mutator(),
            words=WORDS,
        )
        for name in ("bf16", "fp32", "int8", "replay")
    ),
    Target(name="update-steps", run=replaying, seeds=step_lists, max_bytes=4096, mutate=changed_steps),
)  # fmt: skip
