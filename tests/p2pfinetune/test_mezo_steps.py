"""MeZO's steps on the grid: a replay is the same bits everywhere, and is what a slow reader of the rule comes to."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.mezo.signs import Signs
from p2pfinetune.mezo.steps import (
    MOST_AMOUNT,
    MOST_DECAY,
    UNIT,
    StepList,
    floats_of,
    replayed,
    taken,
    units_of,
)

SCHEMA = {"a.lora_A": (3, 50), "a.lora_B": (7, 3), "b.lora_A": (3, 4), "b.lora_B": (90, 3)}
STEPS = StepList(seed=(1 << 64) - 7, first=40, samples=2, rank=3, decay=9_000, amounts=(300, -41, 0, 0, 77, 1 << 20))

pytestmark = pytest.mark.numeric  # a second time where what only newer processors have is masked


def moved() -> dict[str, np.ndarray]:
    """Off the grid, of either sign and several magnitudes."""
    found, place = {}, 0
    for name, shape in SCHEMA.items():
        numbers = (np.arange(place, place := place + math.prod(shape)) * 7919 % 65_537 - 32_768) / 1_000_003
        found[name] = numbers.astype(np.float32).reshape(shape)
    return found


def by_hand(moved: dict[str, np.ndarray], steps: StepList) -> dict[str, list[list[float]]]:
    """Entry by entry, in Python's whole numbers."""
    entries = {name: [[round(float(x) * 2**20) for x in row] for row in values] for name, values in moved.items()}
    signs = Signs(
        {
            name: (values[: steps.rank] if name.endswith("A") else values[:, : steps.rank]).shape
            for name, values in moved.items()
        }
    )
    for number, amounts in steps.steps():
        places = [
            (row, column, values)
            for name, values in entries.items()
            for row, column in _in_order(name, len(values), len(values[0]), steps.rank)
        ]
        for row, column, values in places:
            values[row][column] -= (values[row][column] * steps.decay + 2**23) >> 24
        for sample, amount in enumerate(amounts):
            drawn = signs.bits(steps.seed, number, sample)
            for bit, (row, column, values) in zip(drawn, places, strict=True):
                values[row][column] -= amount if bit else -amount
    return {name: [[value / 2**20 for value in row] for row in values] for name, values in entries.items()}


def _in_order(name: str, rows: int, columns: int, rank: int):
    if name.endswith("A"):
        return [(row, column) for row in range(rank) for column in range(columns)]
    return [(row, column) for column in range(rank) for row in range(rows)]


def test_a_replay_is_these_bits_on_every_processor():
    found = replayed(moved(), STEPS)

    digest = hashlib.sha256(b"".join(found[name].astype("<f4").tobytes() for name in SCHEMA)).hexdigest()
    assert digest[:16] == "c81f9971b527ec4f"


@pytest.mark.parametrize("rank", [3, 1])
def test_a_replay_is_what_the_rule_comes_to_entry_by_entry(rank):
    steps, began = dataclasses.replace(STEPS, rank=rank), moved()

    found, expected = replayed(began, steps), by_hand(began, steps)

    for name, values in found.items():
        held = (slice(rank), slice(None)) if name.endswith("A") else (slice(None), slice(rank))
        assert np.array_equal(values[held], np.array(expected[name], np.float32)[held])
        rest = np.ones(values.shape, bool)
        rest[held] = False
        assert np.array_equal(values[rest], began[name][rest])


def test_a_replay_in_parts_is_one_replay():
    first = dataclasses.replace(STEPS, amounts=STEPS.amounts[:2])
    second = dataclasses.replace(STEPS, first=41, amounts=STEPS.amounts[2:])

    whole, parts = replayed(moved(), STEPS), replayed(replayed(moved(), first), second)

    assert all(np.array_equal(whole[name], parts[name]) for name in SCHEMA)


def test_sums_beyond_32_bits_are_whole():
    steps = StepList(seed=1, first=0, samples=1, rank=1, decay=0, amounts=(MOST_AMOUNT,) * 300)
    signs = Signs({"a.lora_A": (1, 100)})

    found = taken(np.zeros(100, np.int64), steps, signs)

    assert np.array_equal(found, sum(MOST_AMOUNT * (1 - 2 * signs.bits(1, i, 0).astype(np.int64)) for i in range(300)))


@given(
    start=st.lists(st.floats(-2, 2, width=32), min_size=20, max_size=20),
    units=st.lists(st.integers(-(1 << 21), 1 << 21), min_size=20, max_size=20),
)
def test_the_units_that_were_put_into_weights_are_read_off_them_again(start, units):
    began, put = np.array(start, np.float32), np.array(units, np.int64)

    weights = began + floats_of(put)

    assert np.array_equal(units_of(weights - began), put)


def test_what_is_no_number_is_refused_and_what_is_absurd_is_bounded():
    for odd in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            units_of(np.array([odd], np.float32))

    steps = StepList(seed=1, first=0, samples=1, rank=3, decay=MOST_DECAY, amounts=(MOST_AMOUNT,) * 50)
    found = replayed({name: values + np.float32(3e38) for name, values in moved().items()}, steps)

    assert all(np.isfinite(values).all() and (values > 0).all() for values in found.values())


@pytest.mark.parametrize(
    "odd",
    [
        {"seed": -1}, {"seed": 1 << 64}, {"first": -1}, {"first": (1 << 32) - 2}, {"samples": 0}, {"samples": 65},
        {"samples": 4}, {"rank": 0}, {"rank": 1 << 16}, {"decay": -1}, {"decay": MOST_DECAY + 1}, {"amounts": ()},
        {"amounts": (MOST_AMOUNT + 1, 0)}, {"amounts": (-MOST_AMOUNT - 1, 0)},
    ],
)  # fmt: skip
def test_a_list_that_no_trainer_makes_is_none(odd):
    with pytest.raises(ValueError):  # noqa: PT011  # which of them it is matters to nobody
        dataclasses.replace(STEPS, **odd)


def test_an_amount_is_a_millionth_or_so():
    assert UNIT == 1 / 1_048_576
