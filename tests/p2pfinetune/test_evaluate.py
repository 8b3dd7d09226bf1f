"""Losses per window, against one document and one token at a time."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.model.compute import CHUNK, rows_at_once, seeded, token_losses, without_dropout
from p2pfinetune.options import AdapterSpec
from p2pfinetune.scoring.evaluate import PADDING, POSITIONS, divided, evaluate, glance, in_blocks, measure_of

CPU = torch.device("cpu")
CONTEXT = 16


def text(*lengths: int, seed: int = 0) -> TokenSplit:
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in lengths])


def measure(split: TokenSplit, max_tokens: int = 0) -> Any:
    return measure_of(split, context=CONTEXT, vocabulary=320, max_tokens=max_tokens)


def slow_losses(model: Any, document: np.ndarray) -> list[float]:
    """Window by window, unpadded, with the library's own loss."""
    losses = []
    tokens = torch.from_numpy(document.astype(np.int64))
    for start in range(1, len(tokens), CONTEXT):
        stop = min(start + CONTEXT, len(tokens))
        with torch.no_grad():
            logits = model(input_ids=tokens[None, start - 1 : stop - 1]).logits[0]
        losses += torch.nn.functional.cross_entropy(logits, tokens[start:stop], reduction="none").tolist()
    return losses


def test_losses_are_those_of_each_document_alone(tiny_base: Base) -> None:
    split = text(5, 40, 1, 17, 16, 2, 0, 33)

    found = evaluate(tiny_base.model, measure(split), CPU)

    expected = [slow_losses(tiny_base.model, split.document(i)) for i in range(split.documents)]
    windows = [losses[i : i + CONTEXT] for losses in expected for i in range(0, len(losses), CONTEXT)]
    assert found.documents == 6
    assert found.per_window == pytest.approx([np.mean(losses) for losses in windows], rel=1e-5)
    assert found.per_window_tokens.tolist() == [len(losses) for losses in windows]
    assert found.tokens == sum(len(losses) for losses in expected)
    assert found.loss == pytest.approx(np.mean(np.concatenate(expected)), rel=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "phi", "bloom"])
def test_padding_changes_nothing_in_other_families_either(base_of: Any, family: str) -> None:
    model, split = base_of(family).model, text(5, 14, 9)

    found = evaluate(model, measure(split), CPU)

    expected = [np.mean(slow_losses(model, split.document(i))) for i in range(3)]
    assert found.per_window == pytest.approx(expected, rel=1e-4)


def test_windows_of_similar_length_run_together() -> None:
    lengths = [3] * 500 + [CONTEXT + 1] * 200

    batches = measure(text(*lengths)).batches

    padded = sum(int((batch.targets_bt == PADDING).sum()) for batch in batches)
    places = sum(batch.targets_bt.numel() for batch in batches)
    assert padded / places < 0.1
    assert all(batch.targets_bt.numel() <= POSITIONS for batch in batches)


def test_a_limit_chooses_the_same_windows_every_time() -> None:
    split = text(*[30] * 40)

    one, other = measure(split, 200), measure(split, 200)

    assert one.tokens == other.tokens
    assert 150 <= one.tokens <= 200
    for left, right in zip(one.batches, other.batches, strict=True):
        assert torch.equal(left.inputs_bt, right.inputs_bt)


def test_a_limit_spreads_over_the_documents() -> None:
    assert len(set(measure(text(*[30] * 40), 200).per_window_document)) >= 10


@pytest.mark.parametrize("parts", [1, 3, 8, 99])
def test_parts_of_a_measure_hold_its_windows_in_order(tiny_base: Base, parts: int) -> None:
    whole = measure(text(5, 40, 1, 17, 16, 2, 0, 33))

    found = divided(whole, parts)

    assert len(found) == min(parts, len(whole.per_window_tokens))
    together = np.concatenate([evaluate(tiny_base.model, part, CPU).per_window for part in found])
    np.testing.assert_allclose(together, evaluate(tiny_base.model, whole, CPU).per_window, rtol=1e-5)
    assert all(part.tokens > 0 for part in found)


@pytest.mark.parametrize(("tokens", "count"), [(900, 1), (1500, 1), (1600, 2), (4090, 4), (8190, 8)])
def test_blocks_of_a_measure_have_about_a_thousand_tokens_and_each_window_once(tokens: int, count: int) -> None:
    whole = measure(text(tokens + 1))

    blocks = in_blocks(whole)

    assert len(blocks) == count
    assert sorted(np.concatenate([block.windows_w for block in blocks])) == list(range(len(whole.per_window_tokens)))
    assert all(abs(block.measure.tokens - glance(tokens)) <= CONTEXT for block in blocks)


def test_a_limit_below_one_window_still_measures_one() -> None:
    assert measure(text(30, 30), 1).tokens > 0


def test_a_split_without_predictions_measures_nothing() -> None:
    assert measure(text(1, 0, 1)).tokens == 0


def test_every_dropout_is_off_while_measuring() -> None:
    rates = {"embd_pdrop": 0.5, "attn_pdrop": 0.5, "resid_pdrop": 0.5}
    config = AutoConfig.for_model("gpt2", vocab_size=320, n_embd=32, n_layer=2, n_head=2, n_positions=64, **rates)
    with seeded(0, CPU):
        model = AutoModelForCausalLM.from_config(config)
    base = Base("tiny", model, None, "", "", "", CPU)  # type: ignore[arg-type]
    adapted = attach(base, AdapterSpec(rank=2, dropout=0.5))
    generator = torch.Generator().manual_seed(1)
    moved = {name: torch.randn(t.shape, generator=generator) for name, t in adapted.initial.tensors.items()}
    write(adapted, replace(adapted.initial, tensors=moved))
    adapted.model.train()

    first, second = (evaluate(adapted.model, measure(text(40, 20)), CPU) for _ in range(2))

    assert first.per_window.tolist() == second.per_window.tolist()
    assert adapted.model.training
    with torch.no_grad():
        noisy = [adapted.model(input_ids=torch.ones(1, 8, dtype=torch.long)).logits for _ in range(2)]
    assert not torch.equal(*noisy)  # so there was dropout to switch off


def test_modules_are_afterwards_in_the_mode_they_were_in() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout()))
    model[1].eval()

    with without_dropout(model):
        assert not any(module.training for module in model.modules())

    assert [module.training for module in model.modules()] == [True, True, False, False]


@pytest.mark.parametrize("positions", [1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_token_losses_are_the_cross_entropy(positions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 5 * torch.randn(positions, 11, generator=generator)
    targets = torch.randint(0, 11, (positions,), generator=generator)

    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")

    torch.testing.assert_close(token_losses(logits, targets), expected)


def test_a_large_vocabulary_leaves_fewer_rows_and_never_none() -> None:
    assert rows_at_once(256, 4096) == 128
    assert rows_at_once(256, 151_936) == 3
    assert rows_at_once(100_000, 151_936) == 1


def test_measuring_draws_no_random_numbers(tiny_base: Base) -> None:
    before = torch.get_rng_state()

    evaluate(tiny_base.model, measure(text(20, 20), 20), CPU)

    assert torch.equal(torch.get_rng_state(), before)
