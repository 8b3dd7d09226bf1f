"""What every codec must do, run for each that is registered."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pfinetune.codec import CODECS, Codec, DifferenceCodec, difference_codecs
from p2pfinetune.names import Refusal
from p2pfinetune.registry import public_name
from p2pfinetune.round.update import REASONS

SCHEMA = {"m.q.lora_A": (2, 5), "m.q.lora_B": (70, 2), "m.v.lora_A": (2, 3), "m.v.lora_B": (4, 2)}
LARGEST = torch.finfo(torch.float32).max
SMALLEST = 2.0**-149

HEADLESS = ("int4", "levels", "lora-quant", "lora-quant-2", "top-k")
"""Those in a container of their own, without names: see `_coded` and `_lora_quant`."""
IN_SAFETENSORS = [name for name in CODECS.names() if name not in HEADLESS]
DIGESTS = {
    "bf16": "4cb18f91089bd01c",
    "fp32": "56fdddfe4a6a53fe",
    "int4": "c33a79f625e870ed",
    "int8": "e40899605c85cac9",
    "levels": "23bd5f5052d4c2af",
    "lora-quant": "50f924d3a80b0665",
    "lora-quant-2": "002f99783ace9ede",
    "top-k": "4fa712aead38b139",
}
"""Of the bytes of `made(1)` and of what they decode to, in the order of names."""
SHARES = {"int4": 0.08, "levels": 0.15, "top-k": 0.1, "lora-quant": 0.9, "lora-quant-2": 0.9}
"""Of the largest entry, that an error may be: of all others a hundredth."""


def each(names: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("codec", [CODECS.make(name) for name in names], ids=names)


every, in_safetensors = each(CODECS.names()), each(IN_SAFETENSORS)
differing = each([name for name in HEADLESS if name in difference_codecs()])  # those that tell tensors
# entries of every magnitude that fp32 has: zeros, denormals, the largest
entries = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.floats(-1, 1, width=32),
    st.sampled_from([0.0, -0.0, SMALLEST, -SMALLEST, 2.0**-126, LARGEST, -LARGEST]),
)


def tensors_of(schema: Mapping[str, tuple[int, ...]], seed: int, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * scale for name, shape in schema.items()}


def decoded(codec: Codec, blob: bytes, schema: Mapping[str, tuple[int, ...]] = SCHEMA) -> dict[str, Tensor]:
    found = codec.decode(blob, schema)
    assert not isinstance(found, Refusal), found
    return found


def with_header(blob: bytes, header: dict[str, Any] | str) -> bytes:
    """The blob with another header, padded with spaces to the old length where it is shorter."""
    old = int.from_bytes(blob[:8], "little")
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    data = text.encode().ljust(old)
    return len(data).to_bytes(8, "little") + data + blob[8 + old :]


def header_of(blob: bytes) -> dict[str, Any]:
    return json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])


def reason(codec: Codec, blob: bytes) -> str:
    refusal = codec.decode(blob, SCHEMA)
    assert isinstance(refusal, Refusal)
    assert refusal.reason in REASONS
    return refusal.reason


@every
@given(values=st.lists(entries, min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_every_entry_comes_back_within_the_stated_bound(codec: Codec, values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32).reshape(1, -1)
    schema = {"m.lora_A": tuple(tensor.shape)}

    back = decoded(codec, codec.encode({"m.lora_A": tensor}), schema)["m.lora_A"]

    assert back.dtype == torch.float32
    assert torch.isfinite(back).all()
    assert ((back.double() - tensor.double()).abs() <= codec.error_bounds({"m.lora_A": tensor})["m.lora_A"]).all()


@every
@pytest.mark.parametrize("scale", [1e-42, 1e-3, 1.0, 1e30])
def test_random_tensors_come_back_within_the_stated_bound(codec: Codec, scale: float) -> None:
    tensors = tensors_of(SCHEMA, seed=1, scale=scale)

    back = decoded(codec, codec.encode(tensors))

    bounds = codec.error_bounds(tensors)
    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        assert ((back[name].double() - tensor.double()).abs() <= bounds[name]).all()


@every
def test_the_bound_is_no_wider_than_its_share_of_the_largest_entry(codec: Codec) -> None:
    tensor = torch.randn((64, 64), generator=torch.Generator().manual_seed(0))

    assert codec.error_bound(tensor).max() <= SHARES.get(public_name(codec), 0.01) * tensor.abs().max()


@every
def test_zeros_come_back_as_zeros(codec: Codec) -> None:
    back = decoded(codec, codec.encode({n: torch.zeros(s) for n, s in SCHEMA.items()}))

    assert all(not tensor.any() for tensor in back.values())


@every
def test_the_same_tensors_in_any_order_give_the_same_bytes(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=2)
    views = {name: tensor.T.contiguous().T for name, tensor in reversed(tensors.items())}

    assert codec.encode(tensors) == codec.encode(dict(tensors)) == codec.encode(views)


@in_safetensors
def test_what_was_decoded_encodes_to_the_same_bytes(codec: Codec) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=3))

    assert codec.encode(decoded(codec, blob)) == blob


@every
def test_tensors_that_share_memory_are_written(codec: Codec) -> None:
    whole = torch.randn(10, generator=torch.Generator().manual_seed(0))
    schema = {"a.lora_A": (1, 5), "a.lora_B": (5, 1)}

    back = decoded(codec, codec.encode({"a.lora_A": whole[:5].view(1, 5), "a.lora_B": whole[5:].view(5, 1)}), schema)

    bounds = codec.error_bounds({"a.lora_A": whole[:5].view(1, 5), "a.lora_B": whole[5:].view(5, 1)})
    assert ((back["a.lora_B"].flatten() - whole[5:]).abs() <= bounds["a.lora_B"].flatten()).all()


@every
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_own_tensors_that_are_not_finite_are_a_bug_of_ours(codec: Codec, bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode({"m.lora_A": torch.tensor([[0.0, bad]])})


@in_safetensors
@given(shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 300)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_blob_is_longer_than_the_limit_which_is_close(codec: Codec, shapes: list[tuple[int, int]]) -> None:
    schema = {f"layers.{i}.proj.lora_A": shape for i, shape in enumerate(shapes)}

    blob = codec.encode(tensors_of(schema, seed=0))

    assert len(blob) <= codec.max_bytes(schema) <= len(blob) + 40 * len(shapes) + 8


@every
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_never_raise(codec: Codec, flips: list[tuple[int, int]]) -> None:
    blob = bytearray(codec.encode(tensors_of(SCHEMA, seed=4)))
    for place, flip in flips:
        blob[place % len(blob)] ^= flip

    found = codec.decode(bytes(blob), SCHEMA)

    assert isinstance(found, Refusal) or {n: tuple(t.shape) for n, t in found.items()} == SCHEMA


@in_safetensors
@given(place=st.integers(0, 700), flip=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_flipped_header_byte_is_refused_or_changes_nothing(codec: Codec, place: int, flip: int) -> None:
    blob = bytearray(codec.encode(tensors_of(SCHEMA, seed=4)))
    header = 8 + int.from_bytes(blob[:8], "little")
    blob[place % header] ^= flip

    found = codec.decode(bytes(blob), SCHEMA)

    if not isinstance(found, Refusal):  # white space for white space in the padding
        assert codec.encode(found) == codec.encode(tensors_of(SCHEMA, seed=4))


@every
@given(cut=st.integers(1, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_truncated_blob_is_refused(codec: Codec, cut: int) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=5))

    assert reason(codec, blob[: -(cut % len(blob)) or 0]) in {"malformed", "oversize"}


@every
@given(more=st.binary(min_size=1, max_size=100))
@settings(max_examples=50, deadline=None)
def test_an_extended_blob_is_refused(codec: Codec, more: bytes) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=5))

    assert reason(codec, blob + more) in {"malformed", "oversize"}


@every
@given(junk=st.binary(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(codec: Codec, junk: bytes) -> None:
    assert reason(codec, junk) in REASONS


@every
def test_zero_bytes_are_refused(codec: Codec) -> None:
    assert reason(codec, b"") == "malformed"


@in_safetensors
@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1])
def test_a_giant_header_is_refused_unread(codec: Codec, length: int) -> None:
    assert reason(codec, length.to_bytes(8, "little") + b"{}") == "oversize"


@every
def test_a_blob_beyond_the_limit_is_refused(codec: Codec) -> None:
    assert reason(codec, bytes(codec.max_bytes(SCHEMA) + 1)) == "oversize"


@every
def test_a_missing_and_a_foreign_name_are_refused(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=6)
    missing = {name: t for name, t in tensors.items() if name != "m.v.lora_B"}
    foreign = {**missing, "m.x.lora_B": tensors["m.v.lora_B"]}

    assert reason(codec, codec.encode(missing)) == "schema"
    assert reason(codec, codec.encode(foreign)) in {"schema", "oversize"}


@every
def test_a_name_too_many_is_refused(codec: Codec) -> None:
    wider = {**SCHEMA, "m.x.lora_A": (1, 1)}

    assert reason(codec, codec.encode(tensors_of(wider, seed=6))) in {"schema", "oversize"}  # its header is longer


@every
def test_another_shape_of_as_many_entries_is_refused(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=6)
    tensors["m.q.lora_A"] = tensors["m.q.lora_A"].T.contiguous()

    assert reason(codec, codec.encode(tensors)) in {"shape", "schema", "oversize"}


@in_safetensors
def test_a_shape_with_no_entries_is_refused(codec: Codec) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))
    header = header_of(blob)
    header["m.q.lora_A"] = {**header["m.q.lora_A"], "shape": [0, 5], "data_offsets": [0, 0]}

    assert reason(codec, with_header(blob, header)) == "shape"


@in_safetensors
@pytest.mark.usefixtures("unreached")
@pytest.mark.parametrize("shift", [1, 10**6, 2**47])
def test_offsets_beyond_the_data_are_refused(codec: Codec, shift: int) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))
    header = header_of(blob)
    last = max(header, key=lambda name: header[name]["data_offsets"][1])
    begin, end = header[last]["data_offsets"]
    for offsets in ([begin + shift, end + shift], [begin, end + shift], [end, begin]):
        header[last]["data_offsets"] = offsets
        assert reason(codec, with_header(blob, header)) in {"malformed", "oversize"}


@in_safetensors
def test_metadata_is_refused(codec: Codec) -> None:
    header = {"__metadata__": {"a": "b"}, "m.q.lora_A": {}}

    assert reason(codec, with_header(codec.encode(tensors_of(SCHEMA, seed=6)), header)) == "schema"


@every
def test_another_rank_is_refused(codec: Codec) -> None:
    other = {name: tuple(3 if size == 2 else size for size in shape) for name, shape in SCHEMA.items()}
    smaller = {name: tuple(1 if size == 2 else size for size in shape) for name, shape in SCHEMA.items()}

    assert reason(codec, codec.encode(tensors_of(other, seed=6))) in {"shape", "schema", "oversize"}
    assert reason(codec, codec.encode(tensors_of(smaller, seed=6))) in {"shape", "schema"}


@in_safetensors
def test_another_dtype_is_refused(codec: Codec) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))
    header = header_of(blob)
    header["m.q.lora_A"]["dtype"] = "U8"

    assert reason(codec, with_header(blob, header)) == "dtype"


@pytest.fixture
def unreached(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library must not be handed what our own checks should have stopped."""

    def load(blob: bytes) -> None:
        pytest.fail("the library saw a bad blob")

    monkeypatch.setattr("safetensors.torch.load", load)


@in_safetensors
@pytest.mark.usefixtures("unreached")
def test_a_name_that_stands_twice_is_refused(codec: Codec) -> None:
    schema = {f"{i}.lora_A": (1, 64) for i in range(100)}  # whose offsets leave room in the header
    blob = codec.encode(tensors_of(schema, seed=0))
    header = json.dumps(header_of(blob), separators=(",", ":"))

    refusal = codec.decode(with_header(blob, '{"7.lora_A":[],' + header[1:]), schema)

    assert refusal == Refusal("malformed", "a key stands twice")


@in_safetensors
@pytest.mark.usefixtures("unreached")
def test_overlapping_and_gapped_tensors_and_loose_ends_are_refused(codec: Codec) -> None:
    schema = dict.fromkeys(("a.lora_A", "b.lora_A", "c.lora_A"), (1, 4))
    blob = codec.encode(tensors_of(schema, seed=0))
    overlap, gap = header_of(blob), header_of(blob)
    # the second lies over the first, and a hole is left where it was: first byte, last byte and sum are right
    overlap["b.lora_A"]["data_offsets"] = overlap["a.lora_A"]["data_offsets"]
    gap["c.lora_A"]["data_offsets"] = [offset + 1 for offset in gap["c.lora_A"]["data_offsets"]]

    for bad in (with_header(blob, overlap), with_header(blob, gap), blob + b"x", blob[:-1]):
        refusal = codec.decode(bad, schema)
        assert isinstance(refusal, Refusal)
        assert refusal.reason in {"malformed", "oversize"}


@in_safetensors
@pytest.mark.parametrize(
    "entry",
    [
        None, 3, "F32", [], {}, {"dtype": "F32"},
        {"dtype": "F32", "shape": "no", "data_offsets": [0, 40]},
        {"dtype": "F32", "shape": [2.0, 5.0], "data_offsets": [0, 40]},
        {"dtype": "F32", "shape": [-2, -5], "data_offsets": [0, 40]},
        {"dtype": "F32", "shape": [2, True], "data_offsets": [0, 40]},
        {"dtype": "F32", "shape": [2, 5], "data_offsets": [0]},
        {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 40], "more": 1},
        {"dtype": "F32", "shape": [2, 5], "data_offsets": [0, 10**30]},
    ],
)  # fmt: skip
def test_an_entry_that_the_format_does_not_know_is_refused(codec: Codec, entry: Any) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))

    assert reason(codec, with_header(blob, {**header_of(blob), "m.q.lora_A": entry})) in {"malformed", "oversize"}


@in_safetensors
@pytest.mark.parametrize(
    "text",
    ["[" * 250, '{"a":' * 50, "{}", "[]", "null", "NaN", '{"a":1e999}', "9" * 250, '{"a":"\\ud800"}', "\udc80"],
    ids=["deep lists", "deep objects", "empty", "list", "null", "NaN", "infinity", "digits", "surrogate", "not UTF-8"],
)
def test_a_header_that_is_a_trap_is_refused(codec: Codec, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")

    assert reason(codec, len(data).to_bytes(8, "little") + data) in {"malformed", "schema"}


@in_safetensors
def test_a_header_nested_beyond_the_stack_is_refused(codec: Codec) -> None:
    wide = {f"layers.{i}.proj.lora_A": (1, 1) for i in range(5000)}
    data = b"[" * 200_000

    refusal = codec.decode(len(data).to_bytes(8, "little") + data, wide)

    assert isinstance(refusal, Refusal)
    assert refusal.reason == "malformed"


@each(HEADLESS)
@given(shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 300)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_blob_without_names_is_longer_than_the_limit(codec: Codec, shapes: list[tuple[int, int]]) -> None:
    schema = {f"layers.{i}.proj.lora_A": shape for i, shape in enumerate(shapes)}
    spread = {name: tensor.exp().pow(9) for name, tensor in tensors_of(schema, seed=0).items()}

    assert len(codec.encode(tensors_of(schema, seed=0))) <= codec.max_bytes(schema)
    assert len(codec.encode(spread)) <= codec.max_bytes(schema)


@each(HEADLESS)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_finite_is_refused(codec: Codec, number: float) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))
    place = 8 + (4 + 4 if "quant" in public_name(codec) else 0)  # behind the tag, and the turns of two layers
    whole = np.array([number], "<f4")
    form = whole if isinstance(codec, DifferenceCodec) else whole.view("<u2")[1:]

    assert reason(codec, blob[:place] + form.tobytes() + blob[place + form.nbytes :]) == "not-finite"


def made(seed: int) -> dict[str, Tensor]:
    """Tensors of whole numbers, over a hundred, that no library drew."""
    found, state = {}, seed
    for name, shape in SCHEMA.items():
        numbers = []
        for _ in range(math.prod(shape)):
            state = (1_103_515_245 * state + 12_345) % 2**31
            numbers.append(((state >> 8) % 2001 - 1000) * ((state >> 4) % 7) / 100)
        found[name] = torch.tensor(numbers, dtype=torch.float32).reshape(shape)
    return found


@pytest.mark.parametrize(("name", "digest"), sorted(DIGESTS.items()))
def test_the_same_tensors_are_these_bytes_on_every_processor(name: str, digest: str) -> None:
    codec = CODECS.make(name)
    blob = codec.encode(made(1))
    back = decoded(codec, blob)
    numbers = b"".join(back[name].numpy().tobytes() for name in sorted(back))

    assert hashlib.sha256(blob + numbers).hexdigest()[:16] == digest


def changed(tensors: Mapping[str, Tensor], seed: int, scale: float = 0.1) -> dict[str, Tensor]:
    return {name: tensor + scale * made(seed)[name] for name, tensor in tensors.items()}


@differing
def test_a_difference_is_as_near_as_a_key_frame_and_shorter(codec: DifferenceCodec) -> None:
    base = made(1)
    tensors = changed(made(1), seed=2, scale=0.02)
    blob = codec.encode_difference(tensors, base)
    assert blob is not None

    back = codec.decode_difference(blob, SCHEMA, base)

    assert not isinstance(back, Refusal)
    assert len(blob) < len(codec.encode(tensors))
    bounds = codec.error_bounds(tensors)
    for name, tensor in tensors.items():
        lost = (back[name].double() - tensor.double()).abs()
        if public_name(codec) == "top-k":  # what was not chosen stays as it was
            assert bool((lost <= (base[name].double() - tensor.double()).abs() + 1e-6).all())
        else:
            assert bool((lost <= bounds[name]).all())


@differing
def test_a_key_frame_is_no_difference_and_a_difference_no_key_frame(codec: DifferenceCodec) -> None:
    key, base = codec.encode(made(1)), made(1)
    blob = codec.encode_difference(changed(made(1), seed=2, scale=0.02), base)
    assert blob is not None

    assert reason(codec, blob) == "schema"
    assert codec.decode_difference(key, SCHEMA, base) == Refusal(
        "schema", "of another form, or of an adapter with other names or shapes"
    )


@differing
def test_a_difference_to_something_far_off_is_a_key_frame(codec: DifferenceCodec) -> None:
    huge = {name: torch.full(shape, LARGEST) for name, shape in SCHEMA.items()}

    assert codec.encode_difference({name: tensor * 1e-30 for name, tensor in made(1).items()}, huge) is None
    assert codec.encode_difference({name: torch.zeros(shape) for name, shape in SCHEMA.items()}, made(1)) is None


@differing
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4), end=st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_bytes_of_a_difference_that_were_changed_never_raise(
    codec: DifferenceCodec, flips: list[tuple[int, int]], end: int
) -> None:
    base = made(1)
    blob = bytearray(codec.encode_difference(changed(made(1), seed=2, scale=0.02), base) or b"")
    for place, flip in flips:
        blob[place % len(blob)] ^= flip

    found = codec.decode_difference(bytes(blob[: len(blob) - end]), SCHEMA, base)

    assert isinstance(found, Refusal) or {n: tuple(t.shape) for n, t in found.items()} == SCHEMA
    assert not (end and not flips) or isinstance(found, Refusal)
