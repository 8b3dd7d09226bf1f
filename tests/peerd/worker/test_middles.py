"""What the worker makes of a gradient that another peer says it has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from p2pfinetune.model.adapter import FactorSet
from p2pfinetune.names import Digest, PeerId, Refusal
from p2pfinetune.round.pairs import SKETCH, draw_of, length, product, sketch
from p2pfinetune.round.update import LoraUpdate
from peerd.errors import UsageError
from peerd.worker.messages import CompareMiddle, MiddleRefused, MiddleWeighed, Sketched, SketchMiddle, UpdateFile
from peerd.worker.middles import performed

SLOPE = FactorSet({"layer.lora_A": torch.linspace(-1.0, 1.0, 60).reshape(3, 20)})
UPDATE = LoraUpdate(SLOPE)
MIDDLE = (Digest("1" * 64), Digest("2" * 64))
FILE = UpdateFile(peer=PeerId("p"), path="x", codec="bf16")


def middle(pairing: object = "some") -> Any:
    return SimpleNamespace(pairing=pairing, slopes=lambda pairs: [SLOPE for _ in pairs], agreement=product)


def compared(answer: bytes, **changes: Any) -> Any:
    job = CompareMiddle(id=1, mine=FILE, theirs=FILE, middle=MIDDLE, answer=answer)
    return performed(job, middle(), changes.get("mine", UPDATE), UPDATE)


def test_what_one_worker_sketches_another_weighs() -> None:
    said = performed(SketchMiddle(id=1, mine=FILE, theirs=FILE, middle=MIDDLE), middle(), UPDATE, UPDATE)
    assert isinstance(said, Sketched)
    assert len(said.sketch) == 4 * SKETCH

    found = compared(said.sketch)

    assert isinstance(found, MiddleWeighed)
    assert found.product == pytest.approx(length(sketch(SLOPE, draw_of(*MIDDLE))) ** 2)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "malformed"),
        (b"x" * 4 * (SKETCH + 1), "malformed"),
        (np.full(SKETCH, np.nan, np.float32).tobytes(), "not-finite"),
        (np.full(SKETCH, np.inf, np.float32).tobytes(), "not-finite"),
    ],
    ids=["nothing", "too much", "no numbers", "infinite"],
)
def test_what_is_no_sketch_of_finite_numbers_is_refused_with_a_word(answer: bytes, reason: str) -> None:
    def worked_out(pairs: Any) -> Any:
        raise AssertionError("a step was made for what is no answer")

    job = CompareMiddle(id=1, mine=FILE, theirs=FILE, middle=MIDDLE, answer=answer)
    lazy = SimpleNamespace(pairing="some", slopes=worked_out, agreement=product)

    assert performed(job, lazy, UPDATE, UPDATE) == MiddleRefused(id=1, reason=reason)  # type: ignore[arg-type]


def test_an_update_that_the_disk_has_spoilt_is_nobodys_lie() -> None:
    assert compared(bytes(4 * SKETCH), mine=Refusal("malformed")) == MiddleRefused(id=1, reason="worker")


def test_a_worker_whose_scheme_asks_nobody_tells_nobody() -> None:
    with pytest.raises(UsageError, match="compares no gradients"):
        performed(SketchMiddle(id=1, mine=FILE, theirs=FILE, middle=MIDDLE), middle(None), UPDATE, UPDATE)
