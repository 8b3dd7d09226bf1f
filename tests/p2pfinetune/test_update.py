"""What a peer shares, and the inspection of what others share."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from p2pfinetune.codec import CODECS, DifferenceCodec, difference_codecs
from p2pfinetune.model.adapter import Adapter, initial_adapter
from p2pfinetune.names import Refusal
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.update import REASONS, KeyFrame, LoraUpdate, Written, encode_update, inspect, written

SHAPES = {"m.q": (6, 10), "m.v": (5, 70)}
START = initial_adapter(SHAPES, AdapterSpec(rank=2))
SCHEMA = START.schema
every_codec = pytest.mark.parametrize("codec_name", CODECS.names())


def trained(seed: int = 0, scale: float = 0.1) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter({n: t + scale * torch.randn(t.shape, generator=generator) for n, t in START.tensors.items()})


def reason(found: LoraUpdate | Refusal) -> str:
    assert isinstance(found, Refusal), "it was taken"
    assert found.reason in REASONS
    return found.reason


def raw(change: dict[str, torch.Tensor]) -> bytes:
    """An fp32 blob of somebody who does not use our encoder."""
    return save({**{n: torch.zeros(s) for n, s in SCHEMA.items()}, **change})


@every_codec
def test_an_update_carries_the_adapter_within_the_bound_of_its_codec(codec_name: str) -> None:
    codec, own = CODECS.make(codec_name), trained()

    update = inspect(encode_update(own, START, codec), codec_name, SCHEMA, max_norm=100.0)

    assert isinstance(update, LoraUpdate)
    bounds = codec.error_bounds(own.minus(START).tensors)
    for name, tensor in update.adapter(START).tensors.items():
        bound = bounds[name] + 1e-7  # and the rounding of two sums
        assert ((tensor.double() - own.tensors[name].double()).abs() <= bound).all()


@every_codec
def test_an_untrained_peer_shares_the_start_exactly(codec_name: str) -> None:
    update = inspect(encode_update(START, START, CODECS.make(codec_name)), codec_name, SCHEMA, max_norm=0.0)

    assert isinstance(update, LoraUpdate)
    assert update.adapter(START).equals(START)


@every_codec
def test_the_same_adapter_gives_the_same_bytes(codec_name: str) -> None:
    codec = CODECS.make(codec_name)

    assert encode_update(trained(), START, codec) == encode_update(trained(), START, codec)
    assert encode_update(trained(), START, codec) != encode_update(trained(1), START, codec)


def test_an_unknown_codec_is_refused() -> None:
    assert reason(inspect(b"", "zip" * 1000, SCHEMA, max_norm=1.0)) == "codec"
    assert reason(inspect(b"", "_base", SCHEMA, max_norm=1.0)) == "codec"


@every_codec
def test_size_comes_first(codec_name: str) -> None:
    limit = CODECS.make(codec_name).max_bytes(SCHEMA)

    assert reason(inspect(b"x" * (limit + 1), codec_name, SCHEMA, max_norm=1.0)) == "oversize"


@every_codec
def test_an_empty_and_a_truncated_blob_are_refused(codec_name: str) -> None:
    blob = encode_update(trained(), START, CODECS.make(codec_name))

    assert reason(inspect(b"", codec_name, SCHEMA, max_norm=100.0)) == "malformed"
    assert reason(inspect(blob[:-1], codec_name, SCHEMA, max_norm=100.0)) == "malformed"
    assert reason(inspect(blob[: len(blob) // 2], codec_name, SCHEMA, max_norm=100.0)) == "malformed"


@every_codec
def test_another_rank_is_refused(codec_name: str) -> None:
    other = initial_adapter(SHAPES, AdapterSpec(rank=1))

    found = reason(inspect(encode_update(other, other, CODECS.make(codec_name)), codec_name, SCHEMA, max_norm=1))

    assert found in {"shape", "schema"}


@every_codec
def test_missing_and_extra_names_are_refused(codec_name: str) -> None:
    codec = CODECS.make(codec_name)
    fewer = initial_adapter({"m.q": SHAPES["m.q"]}, AdapterSpec(rank=2))
    renamed = initial_adapter({"m.q": SHAPES["m.q"], "m.w": SHAPES["m.v"]}, AdapterSpec(rank=2))

    assert reason(inspect(encode_update(fewer, fewer, codec), codec_name, SCHEMA, max_norm=1)) == "schema"
    assert reason(inspect(encode_update(renamed, renamed, codec), codec_name, SCHEMA, max_norm=1)) == "schema"


@every_codec
def test_the_bytes_of_one_codec_are_refused_as_those_of_another(codec_name: str) -> None:
    alike = {"int8", "replay"} if codec_name in {"int8", "replay"} else {codec_name}  # to the byte, in key frames
    for other in set(CODECS.names()) - alike:
        blob = encode_update(trained(), START, CODECS.make(other))

        assert reason(inspect(blob, codec_name, SCHEMA, max_norm=100.0)) in {"oversize", "schema", "dtype"}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec_name", ["fp32", "bf16"])
def test_one_entry_that_is_not_finite_is_refused(codec_name: str, bad: float) -> None:
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[codec_name]
    tensors = {n: torch.zeros(s, dtype=dtype) for n, s in SCHEMA.items()}
    tensors["m.q.lora_B"][3, 1] = bad

    assert reason(inspect(save(tensors), codec_name, SCHEMA, max_norm=math.inf)) == "not-finite"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_finite_is_refused(bad: float) -> None:
    tensors = {n: torch.ones(s, dtype=torch.int8) for n, s in SCHEMA.items()}
    scales = {f"{n}.scale": torch.full((-(-t.numel() // 64),), bad) for n, t in tensors.items()}

    assert reason(inspect(save({**tensors, **scales}), "int8", SCHEMA, max_norm=math.inf)) == "not-finite"


@every_codec
def test_an_update_of_a_million_times_the_norm_is_refused(codec_name: str) -> None:
    codec, own = CODECS.make(codec_name), trained()
    limit = 2 * own.minus(START).norm()

    assert isinstance(inspect(encode_update(own, START, codec), codec_name, SCHEMA, max_norm=limit), LoraUpdate)
    blown = encode_update(trained(scale=1e5), START, codec)
    assert reason(inspect(blown, codec_name, SCHEMA, max_norm=limit)) == "norm"


def test_the_norm_is_that_over_all_factors_together() -> None:
    blob = raw(
        {"m.q.lora_A": torch.full(SCHEMA["m.q.lora_A"], 1.0), "m.v.lora_A": torch.full(SCHEMA["m.v.lora_A"], 2.0)}
    )
    norm = math.sqrt(12 * 1.0 + 10 * 4.0)

    assert isinstance(inspect(blob, "fp32", SCHEMA, max_norm=norm + 1e-6), LoraUpdate)
    assert reason(inspect(blob, "fp32", SCHEMA, max_norm=norm - 1e-6)) == "norm"


def test_the_largest_numbers_do_not_slip_past_the_norm_by_overflow() -> None:
    largest = torch.finfo(torch.float32).max

    assert reason(inspect(raw({"m.q.lora_A": torch.full((2, 6), largest)}), "fp32", SCHEMA, max_norm=1e6)) == "norm"


def test_a_norm_bound_that_is_no_number_takes_nothing() -> None:
    assert reason(inspect(raw({}), "fp32", SCHEMA, max_norm=math.nan)) == "norm"


@every_codec
@given(place=st.integers(0, 10_000), flip=st.integers(1, 255), cut=st.integers(0, 10_000), more=st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_mutated_blob_never_raises_and_never_exceeds_the_bound(
    codec_name: str, place: int, flip: int, cut: int, more: bytes
) -> None:
    blob = bytearray(encode_update(trained(), START, CODECS.make(codec_name)))
    blob[place % len(blob)] ^= flip
    mutated = bytes(blob[: max(0, len(blob) - cut)] if cut % 3 == 0 else blob) + (more if cut % 5 == 0 else b"")

    found = inspect(mutated, codec_name, SCHEMA, max_norm=10.0)

    assert isinstance(found, Refusal) or found.delta.norm() <= 10.0


@pytest.mark.parametrize("codec_name", sorted(difference_codecs() - {"replay"}))
def test_a_difference_is_read_with_its_key_frame_and_goes_on_from_what_others_have(codec_name: str) -> None:
    codec, key = CODECS.make(codec_name), KeyFrame(encode_update(trained(), START, CODECS.make(codec_name)), 1)
    delta = trained(scale=0.101).minus(START)

    said = written(delta, codec, SCHEMA, key)
    update = inspect(said.blob, codec_name, SCHEMA, max_norm=100.0, base=key.blob)

    assert said.is_difference
    assert said.blob == written(delta, codec, SCHEMA, key).blob
    assert isinstance(update, LoraUpdate)
    lost = math.fsum(float((t - delta.tensors[n]).square().sum()) for n, t in update.delta.tensors.items())
    assert math.sqrt(lost) < 0.35 * delta.norm()
    assert reason(inspect(said.blob, codec_name, SCHEMA, max_norm=100.0)) == "schema"


@pytest.mark.parametrize("codec_name", sorted(difference_codecs() - {"replay"}))
def test_after_so_many_publications_or_of_what_cannot_be_read_the_next_key_frame_comes(codec_name: str) -> None:
    codec = CODECS.make(codec_name)
    assert isinstance(codec, DifferenceCodec)
    delta, blob = trained().minus(START), encode_update(trained(), START, codec)

    assert written(delta, codec, SCHEMA, KeyFrame(blob, codec.key_every - 1)).is_difference
    for key in (None, KeyFrame(blob, codec.key_every), KeyFrame(blob[:-1], 1), KeyFrame(b"", 1)):
        assert written(delta, codec, SCHEMA, key) == Written(blob)


@pytest.mark.parametrize(
    ("codec_name", "base", "detail"),
    [
        ("bf16", b"", "a difference, of a codec that knows none"),
        ("levels", b"", "malformed: 0 bytes hold no head"),
        ("levels", bytes(10_000), "oversize: 10000 bytes, at most"),
        ("levels", encode_update(trained(), START, CODECS.make("top-k")), "schema: of another form"),
    ],
)
def test_a_base_that_is_no_key_frame_is_refused(codec_name: str, base: bytes, detail: str) -> None:
    blob = encode_update(trained(), START, CODECS.make(codec_name))

    found = inspect(blob, codec_name, SCHEMA, max_norm=100.0, base=base)

    assert isinstance(found, Refusal)
    assert found.reason == "base"
    assert found.detail.startswith(detail)
