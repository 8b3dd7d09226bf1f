"""Scoring together is scoring one by one, whatever shares a pass."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from p2pfinetune.batched import measuring
from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec
from p2pfinetune.scoring.evaluate import Evaluation, Measure, evaluate, measure_of

SPEC = AdapterSpec(rank=2, alpha=4)
CPU = torch.device("cpu")


@pytest.fixture
def ragged() -> TokenSplit:
    """A document of one token has nothing to predict, and the longest takes three windows."""
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in (17, 1, 2, 70, 33, 18, 3, 30)])


@pytest.fixture
def measure(ragged: TokenSplit) -> Measure:
    return measure_of(ragged, context=30, vocabulary=320)


def some(adapted: AdaptedModel, count: int, seed: int = 0) -> list[Adapter]:
    dice = torch.Generator().manual_seed(seed)
    schema = adapted.initial.schema
    return [Adapter({n: 0.3 * torch.randn(s, generator=dice) for n, s in schema.items()}) for _ in range(count)]


def one_by_one(adapted: AdaptedModel, adapters: Sequence[Adapter], measure: Measure) -> list[Evaluation]:
    found = []
    for adapter in adapters:
        write(adapted, adapter)
        found.append(evaluate(adapted.model, measure, CPU))
    return found


def assert_equal(together: list[Evaluation], alone: list[Evaluation]) -> None:
    assert len(together) == len(alone)
    for left, right in zip(together, alone, strict=True):
        assert left.tokens == right.tokens
        assert left.loss == pytest.approx(right.loss, abs=2e-5)
        np.testing.assert_allclose(left.per_window, right.per_window, atol=5e-5)
        np.testing.assert_array_equal(left.per_window_tokens, right.per_window_tokens)


@pytest.mark.parametrize(
    "family",
    ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt2", "gpt_neox"],
)
def test_together_is_one_by_one_in_every_family(base_of: Callable[[str], Base], family: str, measure: Measure) -> None:
    adapted = attach(base_of(family), SPEC)
    adapters = some(adapted, 3)

    found = evaluate_together(adapted, adapters, measure, CPU)

    assert_equal(found, one_by_one(adapted, adapters, measure))
    assert len({evaluation.loss for evaluation in found}) == 3


@pytest.mark.parametrize("positions", [1, 100, 100_000])
def test_how_many_adapters_share_a_pass_does_not_matter(
    tiny_base: Base, measure: Measure, monkeypatch: pytest.MonkeyPatch, positions: int
) -> None:
    adapted = attach(tiny_base, SPEC)
    adapters = some(adapted, 5)
    monkeypatch.setitem(measuring.POSITIONS, "cpu", positions)

    found = evaluate_together(adapted, adapters, measure, CPU)

    assert_equal(found, one_by_one(adapted, adapters, measure))


def test_an_adapter_that_is_not_finite_spoils_its_own_score_alone(tiny_base: Base, measure: Measure) -> None:
    adapted = attach(tiny_base, SPEC)
    first, second, third = some(adapted, 3)
    broken = Adapter({n: torch.full_like(t, np.inf) for n, t in second.tensors.items()})

    found = evaluate_together(adapted, [first, broken, third], measure, CPU)

    assert not np.isfinite(found[1].loss)
    assert_equal([found[0], found[2]], one_by_one(adapted, [first, third], measure))


def test_adapters_of_several_ranks_are_scored_with_the_scale_of_the_live_model(
    tiny_base: Base, measure: Measure
) -> None:
    adapted = attach(tiny_base, SPEC)
    wide = attach(tiny_base, AdapterSpec(rank=3, alpha=6))  # alpha / rank is 2 in both
    narrow, wider = some(adapted, 1), some(wide, 1)

    found = evaluate_together(adapted, [*narrow, *wider], measure, CPU)

    assert_equal(found, one_by_one(adapted, narrow, measure) + one_by_one(wide, wider, measure))


def test_an_adapter_of_another_model_is_refused(
    tiny_base: Base, base_of: Callable[[str], Base], measure: Measure
) -> None:
    adapted = attach(tiny_base, SPEC)
    for other in (attach(base_of("gpt2"), SPEC), attach(base_of("phi"), SPEC)):
        with pytest.raises(ValueError, match="does not fit"):
            evaluate_together(adapted, [other.initial, *some(adapted, 1)], measure, CPU)


def test_a_stack_may_be_kept_and_the_live_model_is_not_touched(tiny_base: Base, measure: Measure) -> None:
    adapted = attach(tiny_base, SPEC)
    adapters = some(adapted, 2)
    live = {name: p.clone() for name, p in adapted.model.named_parameters()}
    stack = AdapterStack(adapted)

    first = evaluate_together(adapted, adapters, measure, CPU, stack=stack)
    second = evaluate_together(adapted, adapters[::-1], measure, CPU, stack=stack)

    assert_equal(first, second[::-1])
    assert evaluate_together(adapted, [], measure, CPU) == []
    assert all(torch.equal(p, adapted.model.get_parameter(name)) for name, p in live.items())


def test_the_output_layer_never_sees_a_position_with_nothing_to_predict(tiny_base: Base, measure: Measure) -> None:
    adapted = attach(tiny_base, SPEC)
    stack = AdapterStack(adapted)
    seen: list[int] = []
    losses = stack.output.losses
    stack.output.losses = lambda hidden, targets: (seen.append(len(hidden)), losses(hidden, targets))[1]  # type: ignore[method-assign,assignment]

    evaluate_together(adapted, some(adapted, 2), measure, CPU, stack=stack)

    assert sum(seen) == 2 * measure.tokens


def test_a_model_that_caps_its_logits_keeps_its_output_layer(base_of: Callable[[str], Base]) -> None:
    capped = AdapterStack(attach(base_of("gemma2"), SPEC))
    plain = AdapterStack(attach(base_of("gemma"), SPEC))
    inputs = torch.zeros((1, 3), dtype=torch.int64)

    assert capped.returned(inputs).shape[-1] == 320
    assert plain.returned(inputs).shape[-1] == 32


def test_large_adapters_are_measured_to_the_same_bits_without_rows_of_all_at_once(
    tiny_base: Base, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapted = attach(tiny_base, SPEC)
    adapters = some(adapted, 3)
    at_once = evaluate_together(adapted, adapters, measure, CPU)
    largest = []

    def rows_of(schema, some_adapters):
        largest.append(len(some_adapters))
        return before(schema, some_adapters)

    before = measuring.rows_of
    monkeypatch.setattr(measuring, "rows_of", rows_of)
    monkeypatch.setattr(measuring, "MAX_ROWS", 0)
    monkeypatch.setattr(measuring, "POSITIONS", {"cpu": 1})
    one_by_one = evaluate_together(adapted, adapters, measure, CPU)

    assert set(largest) == {1}
    assert_equal(at_once, one_by_one)
