"""Gradients on a stack are those of the plain model, for adapters of the model's rank and of others."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

from p2pfinetune.batched import gradient
from p2pfinetune.batched.gradient import gradient_of, gradients_of
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec
from p2pfinetune.scoring.evaluate import PADDING, Measure, measure_of


def measure() -> Measure:
    dice = np.random.default_rng(0)
    split = TokenSplit.of([dice.integers(1, 320, size).astype(np.uint16) for size in (50, 9, 31)])
    return measure_of(split, context=16, vocabulary=320)


def some(schema: dict, seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter({name: 0.1 * torch.randn(shape, generator=generator) for name, shape in schema.items()})


def reference(base: Base, spec: AdapterSpec, adapter: Adapter, measured: Measure) -> dict[str, torch.Tensor]:
    adapted = attach(base, spec)
    write(adapted, adapter)
    total = torch.zeros(())
    for batch in measured.batches:
        logits = adapted.model(input_ids=batch.inputs_bt, use_cache=False).logits.flatten(0, 1)
        total = total + functional.cross_entropy(
            logits, batch.targets_bt.flatten(), ignore_index=PADDING, reduction="sum"
        )
    found = torch.autograd.grad(total / measured.tokens, list(adapted.parameters.values()))
    return dict(zip(adapted.parameters, found, strict=True))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_a_gradient_is_that_of_the_plain_model(family: str, base_of: Callable[[str], Base]) -> None:
    base, spec = base_of(family), AdapterSpec(rank=2, dropout=0.5)
    adapted = attach(base, spec)
    adapter = some(dict(adapted.schema), 1)

    found = gradient_of(AdapterStack(adapted), adapter, measure())

    for name, slope in reference(base, spec, adapter, measure()).items():
        assert torch.allclose(found.tensors[name], slope, atol=1e-5), name


def test_a_wider_adapter_is_differentiated_with_the_scale_of_the_models(tiny_base: Base) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2, alpha=4))
    wide = AdapterSpec(rank=6, alpha=12)  # the same alpha / rank
    adapter = some(dict(attach(tiny_base, wide).schema), 2)

    found = gradient_of(AdapterStack(adapted), adapter, measure())

    for name, slope in reference(tiny_base, wide, adapter, measure()).items():
        assert torch.allclose(found.tensors[name], slope, atol=1e-5), name


def test_an_adapter_of_another_model_is_refused(tiny_base: Base) -> None:
    stack = AdapterStack(attach(tiny_base, AdapterSpec(rank=2)))

    with pytest.raises(ValueError, match="does not fit"):
        gradient_of(stack, Adapter({"x.lora_A": torch.ones(2, 3), "x.lora_B": torch.ones(4, 2)}), measure())


def test_the_stack_is_the_base_again_afterwards(tiny_base: Base) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    stack = AdapterStack(adapted)
    inputs = torch.arange(1, 9).unsqueeze(0)
    before = stack.returned(inputs).clone()

    gradient_of(stack, some(dict(adapted.schema), 3), measure())

    assert torch.equal(stack.returned(inputs), before)


@pytest.mark.parametrize("positions", [1, 60, 2048])
def test_gradients_at_several_adapters_are_those_at_each_alone(
    tiny_base: Base, positions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gradient.POSITIONS, "cpu", positions)
    adapted = attach(tiny_base, AdapterSpec(rank=2, alpha=4))
    wide = some(dict(attach(tiny_base, AdapterSpec(rank=6, alpha=12)).schema), 2)
    own = [some(dict(adapted.schema), seed) for seed in range(3)]
    held, stack = [own[0], own[1], wide, own[2]], AdapterStack(adapted)

    together = gradients_of(stack, held, measure())

    for adapter, found in zip(held, together, strict=True):
        alone = gradient_of(stack, adapter, measure())
        assert found.schema == adapter.schema
        assert all(torch.allclose(t, alone.tensors[name], atol=1e-6) for name, t in found.tensors.items())


def test_an_adapter_of_infinities_spoils_no_gradient_but_its_own(tiny_base: Base) -> None:
    adapted = attach(tiny_base, AdapterSpec(rank=2))
    sound = some(dict(adapted.schema), 1)
    bad, stack = Adapter({n: torch.full_like(t, torch.inf) for n, t in sound.tensors.items()}), AdapterStack(adapted)

    found, spoilt = gradients_of(stack, [sound, bad], measure())

    alone = gradient_of(stack, sound, measure())
    assert all(torch.allclose(t, alone.tensors[name], atol=1e-6) for name, t in found.tensors.items())
    assert not all(bool(t.isfinite().all()) for t in spoilt.tensors.values())
