"""The figures that a change of shape must not change, and the comparison itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts import golden

KEPT = Path(__file__).parent / "figures.json"


def kept() -> dict[str, Any]:
    return json.loads(KEPT.read_text(encoding="utf-8"))


def changed(change: dict[str, Any]) -> dict[str, Any]:
    """What is kept, with one value of the first round of the demo replaced."""
    found = kept()
    found["figures"]["demo"]["rounds"][0]["merged"]["harbour-1"] |= change
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_seeded_simulation_and_a_seeded_demo_round_give_the_figures_that_they_gave_before() -> None:
    differing, _ = golden.compared(kept(), golden.as_json(golden.computed()))

    assert differing == []


def test_the_text_that_the_golden_figures_rest_on_is_the_same_on_every_machine() -> None:
    assert golden.text_digest() == kept()["figures"]["text"]


def test_a_verdict_or_a_loss_that_changed_is_named_with_its_place() -> None:
    loss = kept()["figures"]["demo"]["rounds"][0]["merged"]["harbour-1"]["trust"]
    at = "figures / demo / rounds [0] / merged / harbour-1"

    assert golden.compared(kept(), changed({"served": "base"}))[0] == [f"{at} / served: was 'personal', is 'base'"]
    assert golden.compared(kept(), changed({"trust": loss * (1 + 1e-3)}))[0][0].startswith(f"{at} / trust: was {loss}")
    assert golden.compared(kept(), changed({"trust": loss * (1 + 1e-7), "new": None}))[0] == [f"{at} / new: is new"]


def test_bytes_are_compared_on_the_same_kind_of_machine_alone() -> None:
    other = kept() | {"bytes_there": {"update": "0", "checkpoint": "0"}}

    assert [line.partition(":")[0] for line in golden.compared(kept(), other)[0]] == [
        "bytes_there / update",
        "bytes_there / checkpoint",
    ]
    assert golden.compared(kept(), other | {"made_on": {}})[0] == []
