"""Measuring exported adapters on text that no daemon has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfinetune.data.documents import Document
from p2pfinetune.model.adapter import attach, read
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.peft_folder import export_folder
from p2pfinetune.options import AdapterSpec
from p2pfinetune.scoring.evaluate import Evaluation, evaluate, measure_of
from p2pfinetune.scoring.perplexity import MAX_LOSS
from peerd.demo.measure import MEASURED, by_source, finite, measured

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("nano", device="cpu")


def test_pieces_of_one_source_are_one_text(base: Base) -> None:
    pieces = [Document.of(text, source) for text, source in (("ab", "x"), ("c", "y"), ("de", "x"))]

    split, names = by_source(base, pieces)

    end = base.tokenizer.eos_token
    assert names == ["x", "y"]
    assert [base.tokenizer.decode(split.document(i)) for i in range(2)] == [f"ab{end}de{end}", f"c{end}"]


def test_losses_that_are_no_numbers_are_told_as_diverged() -> None:
    tokens = np.array([1, 1, 2], np.int64)
    lost = Evaluation(float("nan"), 4, np.array([np.nan, np.inf, 2.0]), tokens, np.arange(3))

    assert finite(lost).loss == pytest.approx((2 * MAX_LOSS + 4.0) / 4)


def test_what_is_measured_is_the_exported_adapter_on_the_text_given(base: Base, tmp_path: Path) -> None:
    spec = AdapterSpec(rank=2, alpha=4)
    adapted = attach(base, spec)
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.01)
    changed = read(adapted)
    for which in MEASURED:
        adapter = changed if which == "served" else adapted.initial
        export_folder(tmp_path / which, adapter, spec, base.name, adapted.targets)
    test = [Document.of(f"The {name} went to the river, and came back. " * 4, name) for name in ("fox", "dog", "cat")]
    split, _ = by_source(base, test)
    expected = evaluate(
        adapted.model, measure_of(split, context=128, vocabulary=base.model.config.vocab_size), base.device
    )

    found = measured(base, test, tmp_path)

    assert found.served == pytest.approx(expected.loss, abs=1e-4)
    assert found.alone == pytest.approx(found.base, abs=1e-6)
    assert found.against_alone.nats == pytest.approx(found.served - found.alone, abs=1e-6)
    assert (found.tokens, found.against_alone.texts) == (expected.tokens, 3)
