"""What trust schemes are told about an adapter."""

import math

import numpy as np
import pytest
import torch

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.context import CONTEXTS, LAST_CONTEXTS, POSITIONS_EACH, SplitContext, reference_contexts
from p2pfinetune.scoring.evaluate import Block, _parts, evaluate, measure_of
from p2pfinetune.trust.prediction_similarity import PredictionSimilarity

CPU = torch.device("cpu")


@pytest.fixture
def split() -> TokenSplit:
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(1, 320, length).astype(np.uint16) for length in (40, 30, 50, 330)])


@pytest.fixture
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2, dropout=0.3))


def some_adapter(adapted: AdaptedModel, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter({n: 0.1 * torch.randn(t.shape, generator=generator) for n, t in adapted.initial.tensors.items()})


def context_of(adapted: AdaptedModel, split: TokenSplit, told: list[int] | None = None) -> SplitContext:
    measure = measure_of(split, context=32, vocabulary=320)
    return SplitContext(
        adapted, CPU, measure, split, {}, (lambda: told.append(1)) if told is not None else lambda: None
    )


def test_a_loss_is_measured_once_for_each_adapter(adapted: AdaptedModel, split: TokenSplit) -> None:
    told: list[int] = []
    context = context_of(adapted, split, told)
    one, other = some_adapter(adapted, 1), some_adapter(adapted, 2)

    losses = [context.loss(one), context.loss(other), context.loss(one)]

    assert losses[0] == losses[2] != losses[1]
    assert len(told) == 2
    write(adapted, one)
    assert losses[0] == pytest.approx(evaluate(adapted.model, context.measure, CPU).loss, abs=1e-6)


def test_a_glance_is_of_the_same_few_windows_for_all_and_of_no_adapter_twice(
    adapted: AdaptedModel, split: TokenSplit
) -> None:
    told: list[int] = []
    context = context_of(adapted, split, told)
    windows = np.array([1, 3, 4, 9])
    (part,) = _parts(context.measure, [windows])
    context.few = Block(part, windows)
    one, other = some_adapter(adapted, 1), some_adapter(adapted, 2)

    whole = context.evaluation(one)
    glances = [*context.glances([one, other]), *context.glances([other])]

    assert len(told) == 2
    assert glances[0].loss == whole.of(windows).loss
    assert glances[1] is glances[2]
    assert glances[1].tokens == glances[0].tokens == int(whole.per_window_tokens[windows].sum())
    assert glances[1].loss == pytest.approx(context.evaluation(other).of(windows).loss, abs=1e-6)


def test_what_is_asked_of_an_adapter_once_is_made_once(adapted: AdaptedModel, split: TokenSplit) -> None:
    context, made = context_of(adapted, split), list[int]()

    def make() -> float:
        made.append(1)
        return float(len(made))

    one, other = some_adapter(adapted, 1), some_adapter(adapted, 2)

    assert [context.once(one, "a", make), context.once(one, "a", make), context.once(other, "a", make)] == [1, 1, 2]
    assert context.once(one, "b", make) == 3


def test_a_row_that_is_judged_anew_runs_no_adapter_again(adapted: AdaptedModel, split: TokenSplit) -> None:
    told: list[int] = []
    context, me, scheme = context_of(adapted, split, told), PeerId("me"), PredictionSimilarity()
    adapters = {me: some_adapter(adapted, 1), **{PeerId(f"{n}"): some_adapter(adapted, n) for n in (2, 3, 4)}}

    scheme.row(me, adapters, context)
    scheme.row(me, adapters, context, frozenset({PeerId("2"), PeerId("3")}))

    assert len(told) == 4


def test_reference_contexts_are_spread_over_the_split_and_do_not_overlap() -> None:
    split = TokenSplit.of([np.arange(1000, dtype=np.uint16)])

    contexts = reference_contexts(split, 5, 64)

    assert contexts.shape == (5, 64)
    assert contexts[0, 0] == 0
    assert contexts[-1, 0] == 14 * 64
    assert len(contexts.unique()) == contexts.numel()


def test_a_short_split_has_fewer_and_shorter_contexts() -> None:
    split = TokenSplit.of([np.arange(30, dtype=np.uint16)])

    assert reference_contexts(split, 200, 64).shape == (1, 30)


def test_logits_are_those_of_the_model_at_the_same_positions_for_every_adapter(
    adapted: AdaptedModel, split: TokenSplit
) -> None:
    context = context_of(adapted, split)
    mine = some_adapter(adapted, 1)
    contexts = reference_contexts(split, CONTEXTS, 64)

    found, last = context.logits(mine), context.logits(mine, last_only=True)

    write(adapted, mine)
    with torch.no_grad():
        whole = adapted.model(input_ids=contexts).logits
    assert found.shape == (len(contexts) * POSITIONS_EACH, 320)
    torch.testing.assert_close(found.reshape(len(contexts), -1, 320)[:, -1], whole[:, -1])
    torch.testing.assert_close(found.reshape(len(contexts), -1, 320)[:, 0], whole[:, 64 // POSITIONS_EACH - 1])
    assert len(contexts) <= LAST_CONTEXTS
    torch.testing.assert_close(last, whole[:, -1])
    assert context.logits(some_adapter(adapted, 2)).shape == found.shape


def test_the_gradient_is_the_slope_of_the_loss(adapted: AdaptedModel, split: TokenSplit) -> None:
    context = context_of(adapted, split)
    here, direction = some_adapter(adapted, 1), some_adapter(adapted, 2)
    step = 3e-4

    def away(sign: float) -> Adapter:
        return here.plus(Adapter({n: sign * 3.0 * step * t for n, t in direction.tensors.items()}))

    slope = float((context.gradients(here)[0][0].vector() * (3.0 * direction.vector())).sum())

    measured = (context.loss(away(1.0)) - context.loss(away(-1.0))) / (2 * step)
    assert slope == pytest.approx(measured, rel=0.05)


def test_the_gradient_is_the_mean_of_those_of_its_parts(adapted: AdaptedModel, split: TokenSplit) -> None:
    context, here = context_of(adapted, split), some_adapter(adapted, 1)

    parts = context.gradients(here, 4)

    ((whole, tokens),) = context.gradients(here)
    assert len(parts) == 4
    assert sum(count for _, count in parts) == tokens
    mean = sum((gradient.vector() * count for gradient, count in parts), torch.zeros(())) / tokens
    torch.testing.assert_close(mean, whole.vector(), atol=1e-5, rtol=1e-4)


def test_poisoned_adapters_get_an_answer_that_is_not_finite_and_no_exception(
    adapted: AdaptedModel, split: TokenSplit
) -> None:
    poisoned = Adapter({n: torch.full_like(t, 1e30) for n, t in adapted.initial.tensors.items()})

    assert not math.isfinite(context_of(adapted, split).loss(poisoned))


def test_slopes_are_found_once_for_each_adapter_and_are_those_of_the_whole_split(
    adapted: AdaptedModel, split: TokenSplit
) -> None:
    told: list[int] = []
    context = context_of(adapted, split, told)
    one, other = some_adapter(adapted, 1), some_adapter(adapted, 2)

    (alone,) = context.slopes([one])
    both = context.slopes([one, other])

    assert both[0] is alone
    assert len(told) == 2
    ((expected, _),) = context.gradients(one)
    assert all(torch.equal(t, expected.tensors[name]) for name, t in alone.tensors.items())
