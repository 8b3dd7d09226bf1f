"""A base in 8 or 4 bits: what its codes stand for, and that it trains, is measured, and keeps its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import attach, network_digest, write
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.held import weight_of
from p2pfinetune.model.quantised import NF4, Kind, QuantisedLinear, quantise
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.scoring.evaluate import evaluate, measure_of
from p2pfinetune.training.trainers.adamw import AdamW

OFF_BY = {"8bit": 0.01, "4bit": 0.12}  # of the weights, root mean square
SPEC = AdapterSpec(rank=2, alpha=4)
every_kind = pytest.mark.parametrize("kind", ["8bit", "4bit"])


def split() -> TokenSplit:
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(1, 320, 60).astype(np.uint16) for _ in range(4)])


@every_kind
def test_codes_stand_for_nearly_the_weights_in_a_fraction_of_the_memory(kind: Kind) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(128, 192).requires_grad_(False)

    found = QuantisedLinear(layer, kind, 64)

    off = found.made(torch.float32) - layer.weight
    assert float(off.norm() / layer.weight.norm()) < OFF_BY[kind]
    held = sum(t.numel() * t.element_size() for t in (found.weight, found.scales))
    assert held <= layer.weight.numel() * {"8bit": 1.04, "4bit": 0.54}[kind]
    x = torch.randn(3, 128)
    assert torch.equal(found(x), torch.nn.functional.linear(x, found.made(torch.float32), layer.bias))


def test_every_code_of_four_bits_is_its_quantile_and_what_lies_between_goes_to_the_nearest() -> None:
    layer = torch.nn.Linear(16, 8, bias=False)
    layer.weight.data = torch.tensor(NF4).repeat(8, 1) * 4.0
    layer.weight.data[0] = torch.tensor(NF4) * 4.0 + 0.01
    layer.weight.data[1] = 4.0  # of each group, the largest magnitude is the scale

    made = QuantisedLinear(layer, "4bit", 8).made(torch.float32)

    expected = (4.0 * torch.tensor(NF4).bfloat16()).bfloat16().float()
    assert torch.equal(made[2:], expected.repeat(6, 1))
    assert torch.equal(made[0][:15], expected[:15])


def test_a_layer_of_zeros_stays_one() -> None:
    layer = torch.nn.Linear(8, 8)
    layer.weight.data.zero_()

    assert not any(QuantisedLinear(layer, kind, 8).made(torch.float32).any() for kind in ("8bit", "4bit"))


@every_kind
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "bloom"])
def test_it_trains_and_measures_as_the_base_that_its_codes_stand_for(
    tiny_folder: Callable[[str], Path], family: str, kind: Kind
) -> None:
    folder = str(tiny_folder(family))
    coded, plain = load_base(folder, device="cpu", quantize=kind), load_base(folder, device="cpu")
    for path, layer in coded.model.named_modules():
        if isinstance(layer, QuantisedLinear):
            twin = plain.model.get_submodule(path)
            made = layer.made(torch.float32)
            twin.weight.data = made.T.contiguous() if layer.was_transposed else made
    ours, theirs = attach(coded, SPEC), attach(plain, SPEC)
    trainers = [
        AdamW().trainer(adapted, split(), TrainingOptions(batch_size=2, context=12)) for adapted in (ours, theirs)
    ]

    reports = [trainer.run(2) for trainer in trainers]

    assert sum(isinstance(layer, QuantisedLinear) for layer in coded.model.modules()) == len(ours.targets)
    assert ours.targets == theirs.targets
    assert ours.is_transposed == theirs.is_transposed
    assert [report.loss for report in reports[0]] == pytest.approx([report.loss for report in reports[1]], rel=1e-5)
    assert trainers[0].adapter.minus(trainers[1].adapter).norm() < 1e-3 * trainers[1].adapter.norm()
    measure = measure_of(split(), context=12, vocabulary=320)
    scored = evaluate_together(ours, [trainers[0].adapter], measure, coded.device)[0]
    write(ours, trainers[0].adapter)
    assert scored.loss == pytest.approx(evaluate(ours.model, measure, coded.device).loss, rel=1e-5)


@every_kind
def test_it_is_in_the_network_of_those_who_hold_it_whole(
    tiny_base: Base, tiny_folder: Callable[[str], Path], kind: Kind
) -> None:
    coded = load_base(str(tiny_folder("llama")), device="cpu", quantize=kind)

    names = []
    for base in (tiny_base, coded):
        adapted = attach(base, SPEC)
        names.append(network_digest(base, SPEC, adapted.targets, adapted.start, "group"))

    assert names[0] == names[1]
    assert coded.parameters == tiny_base.parameters


def test_nothing_of_the_file_stays_mapped(tiny_folder: Callable[[str], Path]) -> None:
    base = load_base(str(tiny_folder("llama")), device="cpu", quantize="4bit")

    assert all(p.untyped_storage().nbytes() == p.nbytes for p in base.model.parameters())
    assert base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight


def test_layers_too_narrow_for_groups_stay_as_they_are(tiny_folder: Callable[[str], Path]) -> None:
    base = load_base(str(tiny_folder("llama")), device="cpu")
    odd = torch.nn.Linear(32, 9)
    base.model.model.layers[0].mlp.up_proj = odd

    quantise(base.model, "4bit")

    assert base.model.model.layers[0].mlp.up_proj is odd
    assert weight_of(base.model.model.layers[0].mlp.gate_proj, torch.float32).shape == (48, 32)
