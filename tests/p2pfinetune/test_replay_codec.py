"""Steps told as numbers: what receivers come to, what a stranger's list may cost, and when nothing but a key frame will do."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from p2pfinetune.codec import CODECS
from p2pfinetune.codec.replay import HEAD, MOST_DIRECTIONS, Replay
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.mezo.steps import MOST_AMOUNT, StepList, replayed, units_of
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import KeyFrame, LoraUpdate, moved

SCHEMA = {"a.lora_A": (2, 300), "a.lora_B": (400, 2), "b.lora_A": (2, 700), "b.lora_B": (90, 2)}
STEPS = StepList(seed=77, first=9, samples=2, rank=2, decay=500, amounts=(300, -41, 7, 1 << 20))
CODEC = Replay()


def base() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / 50 for name, shape in SCHEMA.items()}


def blob_of(steps: StepList = STEPS) -> bytes:
    blob = CODEC.encode_steps(steps, SCHEMA)
    assert blob is not None
    return blob


def refused(blob: bytes, schema: dict[str, Any] = SCHEMA) -> str:
    found = CODEC.decode_difference(blob, schema, base())
    assert isinstance(found, Refusal)
    return found.reason


def test_a_direction_takes_four_bytes_and_leads_where_the_steps_lead() -> None:
    found = CODEC.decode_difference(blob_of(), SCHEMA, base())

    assert len(blob_of()) == 20 + 4 * len(STEPS.amounts)
    assert not isinstance(found, Refusal)
    expected = replayed({name: tensor.numpy() for name, tensor in base().items()}, STEPS)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == SCHEMA
    assert all(np.array_equal(found[name].numpy(), values) for name, values in expected.items())


def test_a_stranger_s_list_costs_nothing_before_all_of_it_is_found_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfinetune.codec.replay.replayed", lambda *_: pytest.fail("work was done for a bad list"))
    head, wide = blob_of()[: HEAD.size], {"a.lora_A": (8, 1 << 22)}
    blob = blob_of()

    assert refused(head + bytes(4 * 1_000_000)) == "oversize"
    assert refused(head + bytes(4 * (MOST_DIRECTIONS + 1)), wide) == "oversize"
    assert refused(head + bytes(4 * 100), wide) == "oversize"  # too much work, of few steps
    for bad in (b"", head, blob[:-1], blob + b"\0", b"\x02" + blob[1:], HEAD.pack(1, 0, 0, 0, 2, 0) + bytes(8)):
        assert refused(bad) == "malformed"
    assert refused(HEAD.pack(1, 0, 0, 1, 3, 0) + bytes(8)) == "shape"
    for amount in (MOST_AMOUNT + 1, -(1 << 31)):
        assert refused(head + np.array([amount] * 2, "<i4").tobytes()) == "malformed"
    assert refused(HEAD.pack(1, 0, 0xFFFFFFFF, 1, 2, 0) + bytes(8)) == "malformed"
    assert refused(HEAD.pack(1, 0, 0, 1, 2, 0xFFFFFFFF) + bytes(8)) == "malformed"


def test_more_steps_than_a_key_frame_has_bytes_are_not_written() -> None:
    most = (CODEC.max_bytes(SCHEMA) - HEAD.size) // 4

    assert CODEC.encode_steps(dataclasses.replace(STEPS, samples=1, amounts=(1,) * most), SCHEMA) is not None
    assert CODEC.encode_steps(dataclasses.replace(STEPS, samples=1, amounts=(1,) * (most + 1)), SCHEMA) is None


def test_a_key_frame_is_that_of_int8() -> None:
    assert CODEC.encode(base()) == CODECS.make("int8").encode(base())


def learner(tiny_base: Base, trainer: str = "mezo", sharing: Any = "both", own_rank: int = 0) -> Learner:
    dice = np.random.default_rng(4)
    text = TokenSplit.of([dice.integers(1, 320, 60).astype(np.uint16) for _ in range(4)])
    options = LearnerOptions(
        spec=AdapterSpec(rank=2, sharing=sharing, own_rank=own_rank), trainer=trainer,
        training=TrainingOptions(batch_size=2, context=12, lr=1e-2),
    )  # fmt: skip
    corpus = Corpus(text, text, text, text, report=None, fingerprint="tiny")  # type: ignore[arg-type]
    return Learner(tiny_base, corpus, options, me=PeerId("me"), group="g")


@pytest.mark.parametrize(("sharing", "own_rank"), [("both", 0), ("both", 1), ("a", 0), ("b", 0)])
def test_receivers_follow_a_peer_by_its_steps_and_are_as_far_from_it_as_the_key_frame_was(
    tiny_base: Base, sharing: Any, own_rank: int
) -> None:
    mine, other = learner(tiny_base, "mezo", sharing, own_rank), learner(tiny_base, "adamw", sharing)
    mine.train(2)
    key, began = mine.write("replay", None), moved(mine.own(), mine._adapted.initial, mine.options.spec)
    mine.train(3)
    said = mine.write("replay", KeyFrame(key.blob, 1))

    assert (key.is_difference, said.is_difference, len(said.blob)) == (False, True, 20 + 4 * 3)
    first, then = other.admit(key.blob, "replay"), other.admit(said.blob, "replay", key.blob)
    assert isinstance(first, LoraUpdate)
    assert isinstance(then, LoraUpdate)
    ended = moved(mine.own(), mine._adapted.initial, mine.options.spec)
    for name, tensor in ended.tensors.items():
        rows, columns = tensor.shape
        heard = [units_of(u.delta.tensors[name][:rows, :columns].numpy()) for u in (first, then)]
        assert np.array_equal(heard[1] - heard[0], units_of(tensor.numpy()) - units_of(began.tensors[name].numpy()))
        rest = then.delta.tensors[name].clone()
        rest[:rows, :columns] = 0.0
        assert not rest.any()


def test_after_a_merge_a_restart_or_an_unknown_key_frame_the_next_update_is_a_key_frame(
    tiny_base: Base, tmp_path: Path
) -> None:
    mine = learner(tiny_base)
    key = KeyFrame(mine.write("replay", None).blob, 1)
    mine.train(1)
    elsewhere = Adapter({name: tensor + 0.01 for name, tensor in mine.own().tensors.items()})

    assert mine.write("replay", KeyFrame(b"another", 1)).is_difference is False
    mine.train(1)
    key = KeyFrame(mine.write("replay", None).blob, 1)
    mine.train(1)
    assert mine.encode("replay") != key.blob  # a key frame for a newcomer, which ends nothing
    assert mine.write("replay", key).is_difference
    assert not mine.write("replay", KeyFrame(key.blob, CODEC.key_every)).is_difference
    key = KeyFrame(mine.write("replay", None).blob, 1)
    mine.train(1)
    mine.save(tmp_path / "saved")
    mine.restore(tmp_path / "saved")
    assert not mine.write("replay", key).is_difference
    key = KeyFrame(mine.write("replay", None).blob, 1)
    mine._trainer.set_adapter(elsewhere)
    mine.train(1)
    assert not mine.write("replay", key).is_difference


def test_what_noise_hides_is_never_told_as_steps_and_gradients_never_are(tiny_base: Base) -> None:
    hidden, with_gradients = learner(tiny_base), learner(tiny_base, "adamw")
    key = KeyFrame(hidden.write("replay", None, lambda delta: delta).blob, 1)
    hidden.train(1)
    told = KeyFrame(with_gradients.write("replay", None).blob, 1)
    with_gradients.train(1)

    assert not hidden.write("replay", key, lambda delta: delta).is_difference
    assert not with_gradients.write("replay", told).is_difference


def test_entries_of_a_base_that_no_grid_holds_are_bounded() -> None:
    far = {name: torch.full_like(tensor, math.copysign(3e38, -1)) for name, tensor in base().items()}

    found = CODEC.decode_difference(blob_of(), SCHEMA, far)

    assert not isinstance(found, Refusal)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in found.values())
