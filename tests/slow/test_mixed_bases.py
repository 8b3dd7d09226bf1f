"""What of the base is held how is each peer's own affair: they are one network, and bring one another something."""

from __future__ import annotations

import pytest

from benchmarks.mixed_bases import run

pytestmark = pytest.mark.slow


def test_peers_in_fp32_bf16_and_four_bits_gain_from_one_another() -> None:
    found = run(("fp32", "bf16", "4bit"), seed=0, rounds=6)

    assert all(one.gain > 0.0 for one in found)
    assert all(one.merges for one in found)
