"""A trust row that is not a distribution cannot be constructed."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.names import PeerId, TrustRow

A, B = PeerId("a"), PeerId("b")


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {A: 0.5},
        {A: 0.5, B: 0.5001},
        {A: 1.5, B: -0.5},
        {A: math.nan, B: 1.0},
        {A: math.inf, B: 0.0},
    ],
)
def test_a_row_that_is_no_distribution_cannot_be_made(weights: dict[PeerId, float]) -> None:
    with pytest.raises(ValueError, match="trust"):
        TrustRow(weights)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=50))
def test_any_normalised_weights_make_a_row(raw: list[float]) -> None:
    total = math.fsum(raw)

    row = TrustRow({PeerId(str(i)): value / total for i, value in enumerate(raw)})

    assert sum(row.weights.values()) == pytest.approx(1.0)


def test_a_row_does_not_change_after_it_was_made() -> None:
    source = {A: 1.0}
    row = TrustRow(source)
    source[B] = 7.0

    assert dict(row.weights) == {A: 1.0}
    with pytest.raises(TypeError):
        row.weights[B] = 1.0  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.weights = {}  # type: ignore[misc]
