"""`levels`: a grid that moves, so that what rounding loses in one round is told in the next."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from p2pfinetune.codec import CODECS, DifferenceCodec
from p2pfinetune.codec import _coded as coded
from p2pfinetune.codec.levels import offsets
from p2pfinetune.model.adapter import FactorSet
from p2pfinetune.names import Refusal
from p2pfinetune.round.update import KeyFrame, written

SCHEMA = {"m.lora_A": (8, 500)}
STEP = 0.75


def of(values: NDArray[np.float64]) -> dict[str, Tensor]:
    return {"m.lora_A": from_numpy(values.astype(np.float32)).reshape(8, 500)}


@pytest.fixture
def codec() -> DifferenceCodec:
    made = CODECS.make("levels")
    assert isinstance(made, DifferenceCodec)
    return made


def values(seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=4000)


def told_in(codec: DifferenceCodec, now: NDArray[np.float64], key: bytes, publications: int) -> NDArray[np.float64]:
    """What receivers make of `now`, said so many publications after a key frame."""
    base = codec.decode(key, SCHEMA)
    assert not isinstance(base, Refusal)
    said = written(FactorSet(of(now)), codec, SCHEMA, KeyFrame(key, publications))
    assert said.is_difference
    found = codec.decode_difference(said.blob, SCHEMA, base)
    assert not isinstance(found, Refusal)
    return coded.vector(found)


def test_what_moved_by_less_than_half_a_step_is_told_in_the_mean_of_some_rounds(codec: DifferenceCodec) -> None:
    before = values(1)
    now = before + 0.1 * values(2)
    key = codec.encode(of(before))

    told = [told_in(codec, now, key, publications) for publications in range(1, 9)]

    single = fmean(coded.root_mean_square(one - now) for one in told)
    assert single == pytest.approx(STEP / 12**0.5, rel=0.05)  # of a step, as rounding always loses
    assert coded.root_mean_square(np.mean(told, axis=0) - now) < single / 5


def test_offsets_are_dealt_evenly_over_entries_and_over_any_turns_in_a_row() -> None:
    by_turn = np.stack([offsets(4000, turn) for turn in range(250)])

    assert by_turn.min() >= -0.5
    assert by_turn.max() < 0.5
    assert np.abs(by_turn.mean(axis=1)).max() < 0.03
    for first in (0, 3, 200):
        gaps = np.diff(np.sort(by_turn[first : first + 8], axis=0), axis=0)
        assert 0.05 < gaps.min() <= gaps.max() < 0.25


def test_a_turn_beyond_a_byte_is_told(codec: DifferenceCodec) -> None:
    now, key = values(1), of(values(1))

    blob = codec.encode_difference(of(now), key, turn=300)

    assert blob is not None
    assert blob[-1] == 300 % 256
