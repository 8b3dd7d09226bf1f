"""A row for each layer: what it means, what merges by it, and that equal rows are one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.collaborate import bounded, held_back, layer_of, merged_by, scheme_for
from p2pfinetune.round.second_look import useful_row
from p2pfinetune.trust import NOTHING, SCHEMES

ME, FRIEND, OTHER = PeerId("me"), PeerId("friend"), PeerId("other")
PEERS = (ME, FRIEND, OTHER)
LAYERS = ("block.0.q_proj", "block.1.q_proj", "block.1.q_proj_2")
BY_LAYER = [name for name in RULES.names() if RULES.find(name).by_layer]
AS_A_WHOLE = [name for name in RULES.names() if not RULES.find(name).by_layer]


def adapter(seed: int, *, alike: bool = False) -> Adapter:
    dice, tensors = torch.Generator().manual_seed(seed), {}
    for layer in LAYERS:
        if not tensors or not alike:
            a, b = torch.randn((2, 5), generator=dice), torch.randn((4, 2), generator=dice)
        tensors |= {f"{layer}.lora_A": a, f"{layer}.lora_B": b}
    return Adapter(tensors)


def adapters(*, alike: bool = False) -> dict[PeerId, Adapter]:
    return {peer: adapter(i, alike=alike) for i, peer in enumerate(PEERS)}


@dataclass
class World:
    """Nothing is measured but how far an adapter is from an aim."""

    initial: Adapter
    aim: Adapter
    kept: Any = NOTHING

    def moved(self, held: Adapter) -> Adapter:
        return held.minus(self.initial)

    def losses(self, held: Sequence[Adapter]) -> list[float]:
        return [0.5 * one.minus(self.aim).norm() ** 2 for one in held]

    def glances(self, held: Sequence[Adapter]) -> list[Any]:
        return [SimpleNamespace(loss=loss) for loss in self.losses(held)]

    def slopes(self, held: Sequence[Adapter]) -> list[Adapter]:
        return [one.minus(self.aim) for one in held]


def world(*, alike: bool = False) -> Any:
    return World(adapter(17, alike=alike), adapter(18, alike=alike))


@st.composite
def distributions(draw: Any) -> dict[PeerId, float]:
    parts = [draw(st.floats(0.0, 1.0)) for _ in PEERS]
    total = math.fsum(parts) + 1e-3
    return dict(zip(PEERS, ((part + 1e-3 * (i == 0)) / total for i, part in enumerate(parts)), strict=True))


rows_of_layers = st.lists(distributions(), min_size=len(LAYERS), max_size=len(LAYERS)).map(
    lambda rows: TrustRow.of_layers(dict(zip(LAYERS, rows, strict=True)))
)


@given(rows_of_layers)
def test_the_row_that_is_shown_is_the_mean_and_sums_to_one(row: TrustRow) -> None:
    assert sum(row.weights.values()) == pytest.approx(1.0)
    for peer in PEERS:
        assert row.weights[peer] == pytest.approx(sum(weights[peer] for weights in row.layers.values()) / len(LAYERS))


def test_layers_of_other_peers_or_that_are_no_distribution_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to one"):
        TrustRow({ME: 1.0}, {"x": {ME: 0.5}})
    with pytest.raises(ValueError, match="same peers"):
        TrustRow({ME: 1.0}, {"x": {FRIEND: 1.0}})


@pytest.mark.parametrize("of", ["factors", "products"])
def test_with_equal_layers_similarity_by_layer_is_the_ordinary_one(of: str) -> None:
    held, context = adapters(alike=True), world(alike=True)

    row = SCHEMES.make("layer-similarity", {"of": of}).row(ME, held, context)

    ordinary = SCHEMES.make("weight-similarity", {"of": of}).row(ME, held, context)
    assert row.layers.keys() == set(LAYERS)
    assert all(weights == pytest.approx(dict(ordinary.weights)) for weights in row.layers.values())
    assert row.weights == pytest.approx(dict(ordinary.weights))


@pytest.mark.parametrize("of", ["factors", "products"])
def test_a_layers_row_is_the_softmax_of_cosines_of_that_layer(of: str) -> None:
    """A slow, obvious reference: the whole matrices, one layer at a time."""
    held, context = adapters(), world()

    def vector(peer: PeerId, layer: str) -> torch.Tensor:
        a, b = (held[peer].tensors[f"{layer}.lora_{factor}"].double() for factor in "AB")
        if of == "products":
            return (b @ a).flatten()
        start = [context.initial.tensors[f"{layer}.lora_{factor}"].double() for factor in "AB"]
        return torch.cat([(a - start[0]).flatten(), (b - start[1]).flatten()])

    row = SCHEMES.make("layer-similarity", {"of": of, "temperature": 0.3}).row(ME, held, context)

    for layer in LAYERS:
        cosines = [torch.cosine_similarity(vector(ME, layer), vector(peer, layer), dim=0) for peer in PEERS]
        expected = (torch.stack(cosines) / 0.3).softmax(0)
        # the difference of two fp32 adapters is taken in fp32
        assert [row.layers[layer][peer] for peer in PEERS] == pytest.approx(expected.tolist(), rel=1e-5)


def test_an_adapter_that_is_not_finite_in_one_layer_weighs_nothing_in_any() -> None:
    held = adapters()
    name = f"{LAYERS[1]}.lora_B"
    held[FRIEND] = Adapter({**held[FRIEND].tensors, name: torch.full((4, 2), math.nan)})

    row = SCHEMES.make("layer-similarity").row(ME, held, world())

    assert [weights[FRIEND] for weights in row.layers.values()] == [0.0] * len(LAYERS)


@pytest.mark.parametrize("name", BY_LAYER)
@given(weights=distributions())
def test_a_merge_by_equal_rows_is_the_merge_by_that_row(name: str, weights: dict[PeerId, float]) -> None:
    held = adapters()
    neighbours = {peer: held[peer] for peer in (FRIEND, OTHER)}
    merged = partial(merged_by, me=ME, own=held[ME], neighbours=neighbours, rule=RULES.make(name))

    by_layer = merged(TrustRow.of_layers(dict.fromkeys(LAYERS, weights)))

    one = merged(TrustRow(weights))
    assert all(torch.allclose(tensor, one.tensors[name], atol=1e-6) for name, tensor in by_layer.tensors.items())


@given(rows_of_layers)
def test_each_layer_is_the_mean_by_its_own_row(row: TrustRow) -> None:
    held = adapters()
    neighbours = {peer: held[peer] for peer in (FRIEND, OTHER)}

    merged = merged_by(row, ME, held[ME], neighbours, RULES.make("factor-mean"))

    for layer in LAYERS:
        for factor in ("lora_A", "lora_B"):
            expected = sum(row.layers[layer][peer] * held[peer].tensors[f"{layer}.{factor}"].double() for peer in PEERS)
            torch.testing.assert_close(merged.tensors[f"{layer}.{factor}"], expected.float())


def test_where_nobody_else_weighs_anything_in_any_layer_the_own_adapter_itself_stays() -> None:
    held, mine = adapters(), {ME: 1.0, FRIEND: 0.0, OTHER: 0.0}
    neighbours = {peer: held[peer] for peer in (FRIEND, OTHER)}
    merged = partial(merged_by, me=ME, own=held[ME], neighbours=neighbours, rule=RULES.make("core-svd"))

    assert merged(TrustRow.of_layers(dict.fromkeys(LAYERS, mine))) is held[ME]
    some = merged(TrustRow.of_layers({**dict.fromkeys(LAYERS, mine), LAYERS[0]: {ME: 0.5, FRIEND: 0.5, OTHER: 0.0}}))
    assert layer_of(some, LAYERS[1]).equals(layer_of(held[ME], LAYERS[1]))
    assert not layer_of(some, LAYERS[0]).equals(layer_of(held[ME], LAYERS[0]))


def test_what_is_not_shared_stays_the_own_one_in_every_layer() -> None:
    held, row = adapters(), TrustRow.of_layers({layer: {ME: 0.5, FRIEND: 0.5} for layer in LAYERS})

    merged = merged_by(row, ME, held[ME], {FRIEND: held[FRIEND]}, RULES.make("factor-mean"), AdapterSpec(sharing="a"))

    for name, tensor in merged.tensors.items():
        assert torch.equal(tensor, held[ME].tensors[name]) == name.endswith(".lora_B")


@given(row=rows_of_layers, most=st.floats(0.05, 1.0), part=st.floats(0.0, 1.0))
def test_bounds_and_ways_back_are_those_of_each_layer(row: TrustRow, most: float, part: float) -> None:
    low, nearer = bounded(row, ME, most), held_back(row, ME, part)

    for layer, weights in row.layers.items():
        assert low.layers[layer] == pytest.approx(dict(bounded(TrustRow(weights), ME, most).weights))
        assert nearer.layers[layer] == pytest.approx(dict(held_back(TrustRow(weights), ME, part).weights))
    assert bounded(low, ME, most) is low


def test_who_brings_nothing_weighs_nothing_in_any_layer() -> None:
    held, context = adapters(), world()
    held[FRIEND] = Adapter({n: 0.5 * (t + context.aim.tensors[n]) for n, t in held[ME].tensors.items()})
    held[OTHER] = Adapter({n: t + 5.0 * (t - context.aim.tensors[n]) for n, t in held[ME].tensors.items()})
    neighbours = {peer: held[peer] for peer in (FRIEND, OTHER)}
    scheme = SCHEMES.make("layer-similarity")
    row = scheme.row(ME, held, context)
    mixed = partial(merged_by, me=ME, rule=RULES.make("factor-mean"))

    useful = useful_row(row, ME, held[ME], neighbours, scheme, mixed, context)

    assert useful.layers.keys() == row.layers.keys()
    assert all(weights[OTHER] == 0.0 < weights[FRIEND] for weights in useful.layers.values())
    assert all(sum(weights.values()) == pytest.approx(1.0) for weights in useful.layers.values())


@pytest.mark.parametrize("rule", AS_A_WHOLE)
def test_a_rule_that_looks_at_adapters_as_a_whole_is_refused_with_a_row_for_each_layer(rule: str) -> None:
    with pytest.raises(OptionError, match=f"'layer-similarity'.*'{rule}'") as refused:
        scheme_for("layer-similarity", {}, RULES.make(rule))

    assert all(name in refused.value.hint for name in BY_LAYER)


@pytest.mark.parametrize("rule", BY_LAYER)
def test_rules_that_merge_layer_by_layer_are_taken(rule: str) -> None:
    assert scheme_for("layer-similarity", {}, RULES.make(rule)).by_layer
    assert {"krum", "geometric-median", "norm-clipping"} <= set(AS_A_WHOLE)


def test_slopes_at_both_ends_are_exact_for_a_loss_that_is_quadratic() -> None:
    held, context = adapters(), world()

    row = SCHEMES.make("first-order", {"at": "both", "temperature": 7.0}).row(ME, held, context)

    exact = SCHEMES.make("validation", {"temperature": 7.0}).row(ME, held, context)
    assert row.weights == pytest.approx(dict(exact.weights), rel=1e-4)
    assert SCHEMES.make("first-order", {"temperature": 7.0}).row(ME, held, context).weights != pytest.approx(
        dict(exact.weights), rel=1e-2
    )
