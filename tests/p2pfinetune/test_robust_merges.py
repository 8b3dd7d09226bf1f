"""What a minority of liars can do to each robust merge rule: slow obvious references, and bounds that have to hold."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES
from p2pfinetune.merge.norm_clipping import length
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow

ME = PeerId("peer0")
weights_st = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def adapter(seed: int, scale: float = 1.0, around: float = 0.0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"m.q.lora_A": (2, 3), "m.q.lora_B": (4, 2)}
    return Adapter({n: around + scale * torch.randn(shape, generator=generator) for n, shape in shapes.items()})


def network(count: int, seed: int = 0) -> dict[PeerId, Adapter]:
    return {PeerId(f"peer{i}"): adapter(100 * seed + i) for i in range(count)}


def row_of(*weights: float) -> TrustRow:
    return TrustRow({PeerId(f"peer{i}"): w / sum(weights) for i, w in enumerate(weights)})


def even(adapters: dict[PeerId, Adapter]) -> TrustRow:
    return TrustRow(dict.fromkeys(adapters, 1 / len(adapters)))


def merged(rule: str, adapters: dict[PeerId, Adapter], row: TrustRow | None = None, **options: float) -> torch.Tensor:
    return RULES.make(rule, options).merge(row or even(adapters), adapters, adapters[ME]).vector()


def repeated(adapters: dict[PeerId, Adapter], weights: list[int]) -> torch.Tensor:
    """Whole weights as copies: (copies, entries)."""
    return torch.stack([a.vector() for a, w in zip(adapters.values(), weights, strict=True) for _ in range(w)])


@given(weights=weights_st, seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_weighted_median_is_the_median_of_copies(weights: list[int], seed: int) -> None:
    adapters = network(len(weights), seed)

    found = merged("coordinate-median", adapters, row_of(*weights))

    assert torch.allclose(found, repeated(adapters, weights).quantile(0.5, dim=0), atol=1e-5)


@given(weights=weights_st, seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_a_weighted_trimmed_mean_is_that_of_copies(weights: list[int], seed: int) -> None:
    adapters = network(len(weights), seed)
    fine = repeated(adapters, [10 * weight for weight in weights]).sort(dim=0).values
    cut = len(fine) // 5

    found = merged("trimmed-mean", adapters, row_of(*weights), trimmed=0.2)

    assert torch.allclose(found, fine[cut : len(fine) - cut].mean(dim=0), atol=1e-5)


def test_nothing_trimmed_is_the_mean() -> None:
    adapters, row = network(4), row_of(1, 2, 3, 4)

    assert torch.allclose(merged("trimmed-mean", adapters, row, trimmed=0.0), merged("factor-mean", adapters, row))


@pytest.mark.parametrize(("rule", "options"), [("coordinate-median", {}), ("trimmed-mean", {"trimmed": 0.4})])
@given(seed=st.integers(0, 50), size=st.sampled_from([-1e6, -3.0, 3.0, 1e6]))
@settings(max_examples=20, deadline=None)
def test_no_entry_leaves_the_range_of_the_honest(rule: str, options: dict, seed: int, size: float) -> None:
    honest = network(5, seed)
    liars = {PeerId(f"z{i}"): adapter(i, around=size) for i in range(3)}

    found = merged(rule, honest | liars, **options)

    stacked = torch.stack([a.vector() for a in honest.values()])
    assert (found >= stacked.amin(0) - 1e-5).all()
    assert (found <= stacked.amax(0) + 1e-5).all()


@given(weights=weights_st, seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_no_step_from_the_geometric_median_makes_the_distances_smaller(weights: list[int], seed: int) -> None:
    adapters, row = network(len(weights), seed), row_of(*weights)
    points = torch.stack([a.vector().double() for a in adapters.values()])
    shares = torch.tensor([row.weights[p] for p in adapters], dtype=torch.float64)

    def total(at: torch.Tensor) -> float:
        return float(shares @ torch.linalg.vector_norm(points - at, dim=1))

    found = merged("geometric-median", adapters, row).double()

    generator = torch.Generator().manual_seed(seed)
    for _ in range(20):
        step = torch.randn(found.shape, generator=generator, dtype=torch.float64) * 0.05
        assert total(found) <= total(found + step) + 1e-5


@pytest.mark.parametrize("size", [10.0, 1e3, 1e6])
def test_the_geometric_median_does_not_follow_a_minority_however_far_it_goes(size: float) -> None:
    honest = network(5)
    liars = {PeerId(f"z{i}"): adapter(i, around=size) for i in range(3)}
    centre = torch.stack([a.vector() for a in honest.values()]).mean(dim=0)
    spread = max(float((a.vector() - centre).norm()) for a in honest.values())

    found = merged("geometric-median", honest | liars)

    share = 3 / 8  # Lopuhaa and Rousseeuw 1991: at most 2 (1 - share) / (1 - 2 share) times the spread
    assert float((found - centre).norm()) <= 2 * (1 - share) / (1 - 2 * share) * spread


def slow_krum(adapters: dict[PeerId, Adapter], hostile: float) -> PeerId:
    left_out = math.floor(hostile * len(adapters))
    scores = {}
    for peer, mine in adapters.items():
        away = sorted(mine.minus(other).norm() ** 2 for name, other in adapters.items() if name != peer)
        scores[peer] = sum(away[: max(1, len(adapters) - left_out - 2)])
    return min(scores, key=lambda peer: scores[peer])


@given(count=st.integers(4, 7), seed=st.integers(0, 50), hostile=st.sampled_from([0.0, 0.2, 0.3, 0.45]))
@settings(max_examples=30, deadline=None)
def test_krum_is_the_adapter_with_the_nearest_others(count: int, seed: int, hostile: float) -> None:
    adapters = network(count, seed)

    found = merged("krum", adapters, hostile=hostile)

    chosen = slow_krum(adapters, hostile)
    scores_tie = count - math.floor(hostile * count) - 2 <= 1  # the two that are nearest to each other score the same
    assert any(torch.equal(found, a.vector()) for a in adapters.values())
    assert scores_tie or torch.equal(found, adapters[chosen].vector())


@pytest.mark.parametrize("rule", ["krum", "multi-krum"])
def test_far_away_adapters_are_not_among_the_central_ones(rule: str) -> None:
    honest = {PeerId(f"peer{i}"): adapter(i, scale=0.1) for i in range(7)}
    liars = {PeerId(f"a{i}"): adapter(i, around=50.0) for i in range(3)}  # named to come first

    found = merged(rule, honest | liars, hostile=0.3)

    assert float(found.abs().max()) < 1.0


def test_multi_krum_weighs_those_that_stay_by_the_row() -> None:
    near = {PeerId(f"peer{i}"): adapter(i, scale=0.1) for i in range(3)}
    far = {PeerId("peer3"): adapter(3, around=50.0)}
    row = row_of(1, 2, 3, 4)

    found = merged("multi-krum", near | far, row, hostile=0.25)

    assert torch.allclose(found, sum(w * near[PeerId(f"peer{i}")].vector() for i, w in enumerate((1, 2, 3))) / 6)


@given(
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    size=st.floats(-1e6, 1e6),
    radius=st.floats(0.1, 5.0),
    steps=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_nobody_moves_the_own_adapter_by_more_than_its_weight_times_the_radius(
    weights: list[int], size: float, radius: float, steps: int
) -> None:
    honest = network(len(weights))
    last = PeerId(f"peer{len(weights) - 1}")
    lied = {**honest, last: adapter(1, around=size)}
    row = row_of(*weights)

    moved = merged("centred-clipping", lied, row, radius=radius, steps=1) - merged(
        "centred-clipping", {**honest, last: honest[ME]}, row, radius=radius, steps=1
    )
    all_steps = merged("centred-clipping", lied, row, radius=radius, steps=steps) - honest[ME].vector()

    assert float(moved.norm()) <= row.weights[last] * radius * 1.001 + 1e-5
    assert float(all_steps.norm()) <= (1 - row.weights[ME]) * radius * steps * 1.001 + 1e-5


def test_a_wide_radius_clips_nobody() -> None:
    adapters, row = network(4), row_of(1, 2, 3, 4)

    found = merged("centred-clipping", adapters, row, radius=1e6)

    assert torch.allclose(found, merged("factor-mean", adapters, row), atol=1e-5)


def test_a_scaled_adapter_counts_as_no_longer_than_the_median_one() -> None:
    honest = network(4)
    liar = {PeerId("z"): Adapter({n: 1e4 * t if n.endswith("B") else t for n, t in adapter(9).tensors.items()})}

    found = RULES.make("norm-clipping").merge(even(honest | liar), honest | liar, honest[ME])

    longest = max(length(a) for a in honest.values())
    assert length(found) <= 2 * longest


@given(seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_the_length_of_an_adapter_is_the_norm_of_its_products(seed: int) -> None:
    one = adapter(seed)

    products = [b.double() @ a.double() for _, a, b in one.pairs()]

    assert length(one) == pytest.approx(math.sqrt(sum(float(p.square().sum()) for p in products)), rel=1e-9)


def test_equal_lengths_are_left_alone() -> None:
    same = adapter(1)
    turned = Adapter({n: -t for n, t in same.tensors.items()})  # -B times -A is the same product

    found = merged("norm-clipping", {ME: same, PeerId("peer1"): turned})

    assert torch.allclose(found, torch.zeros_like(found), atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "option", "value"),
    [
        ("trimmed-mean", "trimmed", 0.5),
        ("trimmed-mean", "trimmed", -0.1),
        ("trimmed-mean", "trimmed", math.nan),
        ("krum", "hostile", 0.5),
        ("multi-krum", "hostile", -0.1),
        ("geometric-median", "steps", 0),
        ("centred-clipping", "radius", -1.0),
        ("centred-clipping", "radius", math.nan),
        ("centred-clipping", "steps", 0),
    ],
)
def test_options_out_of_range_are_refused(rule: str, option: str, value: float) -> None:
    with pytest.raises(OptionError, match=option):
        RULES.make(rule, {option: value})


def test_every_rule_survives_any_pair_of_adapters_that_are_alike() -> None:
    same = adapter(1)
    for rule, weights in itertools.product(RULES.names(), [(1.0,), (1, 1), (1, 2, 3)]):
        adapters = {PeerId(f"peer{i}"): same for i in range(len(weights))}

        assert torch.allclose(merged(rule, adapters, row_of(*weights)), same.vector(), atol=1e-5), rule
