"""What every codec must do, run for each that is registered."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pfinetune.codec import CODECS, Codec
from p2pfinetune.names import Refusal
from p2pfinetune.round.update import REASONS

SCHEMA = {"m.q.lora_A": (2, 5), "m.q.lora_B": (70, 2), "m.v.lora_A": (2, 3), "m.v.lora_B": (4, 2)}
LARGEST = torch.finfo(torch.float32).max
SMALLEST = 2.0**-149

pytestmark = pytest.mark.parametrize("codec", [CODECS.make(name) for name in CODECS.names()], ids=CODECS.names())
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


@given(values=st.lists(entries, min_size=1, max_size=200))
@settings(max_examples=60, deadline=None)
def test_every_entry_comes_back_within_the_stated_bound(codec: Codec, values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float32).reshape(1, -1)
    schema = {"m.lora_A": tuple(tensor.shape)}

    back = decoded(codec, codec.encode({"m.lora_A": tensor}), schema)["m.lora_A"]

    assert back.dtype == torch.float32
    assert torch.isfinite(back).all()
    assert ((back.double() - tensor.double()).abs() <= codec.error_bound(tensor)).all()


@pytest.mark.parametrize("scale", [1e-42, 1e-3, 1.0, 1e30])
def test_random_tensors_come_back_within_the_stated_bound(codec: Codec, scale: float) -> None:
    tensors = tensors_of(SCHEMA, seed=1, scale=scale)

    back = decoded(codec, codec.encode(tensors))

    for name, tensor in tensors.items():
        assert back[name].shape == tensor.shape
        assert ((back[name].double() - tensor.double()).abs() <= codec.error_bound(tensor)).all()


def test_the_bound_is_no_wider_than_a_hundredth_of_the_largest_entry(codec: Codec) -> None:
    tensor = torch.randn((64, 64), generator=torch.Generator().manual_seed(0))

    assert codec.error_bound(tensor).max() <= 0.01 * tensor.abs().max()


def test_zeros_come_back_as_zeros(codec: Codec) -> None:
    back = decoded(codec, codec.encode({n: torch.zeros(s) for n, s in SCHEMA.items()}))

    assert all(not tensor.any() for tensor in back.values())


def test_the_same_tensors_in_any_order_give_the_same_bytes(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=2)
    views = {name: tensor.T.contiguous().T for name, tensor in reversed(tensors.items())}

    assert codec.encode(tensors) == codec.encode(dict(tensors)) == codec.encode(views)


def test_what_was_decoded_encodes_to_the_same_bytes(codec: Codec) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=3))

    assert codec.encode(decoded(codec, blob)) == blob


def test_tensors_that_share_memory_are_written(codec: Codec) -> None:
    whole = torch.randn(10, generator=torch.Generator().manual_seed(0))
    schema = {"a.lora_A": (1, 5), "a.lora_B": (5, 1)}

    back = decoded(codec, codec.encode({"a.lora_A": whole[:5].view(1, 5), "a.lora_B": whole[5:].view(5, 1)}), schema)

    assert torch.allclose(back["a.lora_B"].flatten(), whole[5:], atol=0.02)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_own_tensors_that_are_not_finite_are_a_bug_of_ours(codec: Codec, bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        codec.encode({"m.lora_A": torch.tensor([[0.0, bad]])})


@given(shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 300)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_no_blob_is_longer_than_the_limit_which_is_close(codec: Codec, shapes: list[tuple[int, int]]) -> None:
    schema = {f"layers.{i}.proj.lora_A": shape for i, shape in enumerate(shapes)}

    blob = codec.encode(tensors_of(schema, seed=0))

    assert len(blob) <= codec.max_bytes(schema) <= len(blob) + 40 * len(shapes) + 8


@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_never_raise(codec: Codec, flips: list[tuple[int, int]]) -> None:
    blob = bytearray(codec.encode(tensors_of(SCHEMA, seed=4)))
    for place, flip in flips:
        blob[place % len(blob)] ^= flip

    found = codec.decode(bytes(blob), SCHEMA)

    assert isinstance(found, Refusal) or {n: tuple(t.shape) for n, t in found.items()} == SCHEMA


@given(place=st.integers(0, 700), flip=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_flipped_header_byte_is_refused_or_changes_nothing(codec: Codec, place: int, flip: int) -> None:
    blob = bytearray(codec.encode(tensors_of(SCHEMA, seed=4)))
    header = 8 + int.from_bytes(blob[:8], "little")
    blob[place % header] ^= flip

    found = codec.decode(bytes(blob), SCHEMA)

    if not isinstance(found, Refusal):  # white space for white space in the padding
        assert codec.encode(found) == codec.encode(tensors_of(SCHEMA, seed=4))


@given(cut=st.integers(1, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_truncated_blob_is_refused(codec: Codec, cut: int) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=5))

    assert reason(codec, blob[: -(cut % len(blob)) or 0]) in {"malformed", "oversize"}


@given(more=st.binary(min_size=1, max_size=100))
@settings(max_examples=50, deadline=None)
def test_an_extended_blob_is_refused(codec: Codec, more: bytes) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=5))

    assert reason(codec, blob + more) in {"malformed", "oversize"}


@given(junk=st.binary(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(codec: Codec, junk: bytes) -> None:
    assert reason(codec, junk) in REASONS


def test_zero_bytes_are_refused(codec: Codec) -> None:
    assert reason(codec, b"") == "malformed"


@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1])
def test_a_giant_header_is_refused_unread(codec: Codec, length: int) -> None:
    assert reason(codec, length.to_bytes(8, "little") + b"{}") == "oversize"


def test_a_blob_beyond_the_limit_is_refused(codec: Codec) -> None:
    assert reason(codec, bytes(codec.max_bytes(SCHEMA) + 1)) == "oversize"


def test_a_missing_and_a_foreign_name_are_refused(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=6)
    missing = {name: t for name, t in tensors.items() if name != "m.v.lora_B"}
    foreign = {**missing, "m.x.lora_B": tensors["m.v.lora_B"]}

    assert reason(codec, codec.encode(missing)) == "schema"
    assert reason(codec, codec.encode(foreign)) == "schema"


def test_a_name_too_many_is_refused(codec: Codec) -> None:
    wider = {**SCHEMA, "m.x.lora_A": (1, 1)}

    assert reason(codec, codec.encode(tensors_of(wider, seed=6))) in {"schema", "oversize"}  # its header is longer


def test_another_shape_of_as_many_entries_is_refused(codec: Codec) -> None:
    tensors = tensors_of(SCHEMA, seed=6)
    tensors["m.q.lora_A"] = tensors["m.q.lora_A"].T.contiguous()

    assert reason(codec, codec.encode(tensors)) == "shape"


def test_a_shape_with_no_entries_is_refused(codec: Codec) -> None:
    blob = codec.encode(tensors_of(SCHEMA, seed=6))
    header = header_of(blob)
    header["m.q.lora_A"] = {**header["m.q.lora_A"], "shape": [0, 5], "data_offsets": [0, 0]}

    assert reason(codec, with_header(blob, header)) == "shape"


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


def test_metadata_is_refused(codec: Codec) -> None:
    header = {"__metadata__": {"a": "b"}, "m.q.lora_A": {}}

    assert reason(codec, with_header(codec.encode(tensors_of(SCHEMA, seed=6)), header)) == "schema"


def test_another_rank_is_refused(codec: Codec) -> None:
    other = {name: tuple(3 if size == 2 else size for size in shape) for name, shape in SCHEMA.items()}
    smaller = {name: tuple(1 if size == 2 else size for size in shape) for name, shape in SCHEMA.items()}

    assert reason(codec, codec.encode(tensors_of(other, seed=6))) in {"shape", "oversize"}
    assert reason(codec, codec.encode(tensors_of(smaller, seed=6))) == "shape"


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


@pytest.mark.usefixtures("unreached")
def test_a_name_that_stands_twice_is_refused(codec: Codec) -> None:
    schema = {f"{i}.lora_A": (1, 64) for i in range(100)}  # whose offsets leave room in the header
    blob = codec.encode(tensors_of(schema, seed=0))
    header = json.dumps(header_of(blob), separators=(",", ":"))

    refusal = codec.decode(with_header(blob, '{"7.lora_A":[],' + header[1:]), schema)

    assert refusal == Refusal("malformed", "a key stands twice")


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


@pytest.mark.parametrize(
    "text",
    ["[" * 250, '{"a":' * 50, "{}", "[]", "null", "NaN", '{"a":1e999}', "9" * 250, '{"a":"\\ud800"}', "\udc80"],
    ids=["deep lists", "deep objects", "empty", "list", "null", "NaN", "infinity", "digits", "surrogate", "not UTF-8"],
)
def test_a_header_that_is_a_trap_is_refused(codec: Codec, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")

    assert reason(codec, len(data).to_bytes(8, "little") + data) in {"malformed", "schema"}


def test_a_header_nested_beyond_the_stack_is_refused(codec: Codec) -> None:
    wide = {f"layers.{i}.proj.lora_A": (1, 1) for i in range(5000)}
    data = b"[" * 200_000

    refusal = codec.decode(len(data).to_bytes(8, "little") + data, wide)

    assert isinstance(refusal, Refusal)
    assert refusal.reason == "malformed"
