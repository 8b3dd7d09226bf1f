"""What every merge rule must do, run for each that is registered; and what each rule promises for itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from p2pfinetune.merge import RULES, MergeRule, product_error
from p2pfinetune.merge.core_svd import CoreSvd
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow

RANK, IN, OUT = 3, 7, 9
every_rule = pytest.mark.parametrize("rule", [RULES.make(name) for name in RULES.names()], ids=RULES.names())
MEANS = ("core-svd", "factor-mean")  # the others leave something out
every_mean = pytest.mark.parametrize("rule", [RULES.make(name) for name in MEANS], ids=MEANS)
weights_st = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5).filter(lambda w: sum(w) > 0.1)


def adapter(seed: int, *, paths: tuple[str, ...] = ("m.q", "m.v"), out_features: int = OUT) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors[f"{path}.lora_A"] = torch.randn((RANK, IN), generator=generator)
        tensors[f"{path}.lora_B"] = torch.randn((out_features, RANK), generator=generator)
    return Adapter(tensors)


def peers(count: int) -> list[PeerId]:
    return [PeerId(f"peer{i}") for i in range(count)]


def row_of(weights: list[float], names: list[PeerId] | None = None) -> TrustRow:
    total = sum(weights)
    return TrustRow({p: w / total for p, w in zip(names or peers(len(weights)), weights, strict=True)})


def product_sum(row: TrustRow, adapters: dict[PeerId, Adapter], path: str) -> Tensor:
    """The slow obvious version: every product in full."""
    return sum(
        (w * adapters[p].tensors[f"{path}.lora_B"].double() @ adapters[p].tensors[f"{path}.lora_A"].double())
        for p, w in row.weights.items()
    )  # type: ignore[return-value]


def products(merged: Adapter) -> dict[str, Tensor]:
    return {path: b.double() @ a.double() for path, a, b in merged.pairs()}


def distance(one: Adapter, other: Adapter) -> float:
    return one.minus(other).norm()


@every_rule
@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_merge_has_the_own_schema_and_is_finite(rule: MergeRule, weights: list[float], seed: int) -> None:
    adapters = {p: adapter(seed + i) for i, p in enumerate(peers(len(weights)))}

    merged = rule.merge(row_of(weights), adapters, adapters[PeerId("peer0")])

    assert merged.schema == adapters[PeerId("peer0")].schema
    assert torch.isfinite(merged.vector()).all()


@every_rule
@given(count=st.integers(1, 5), chosen=st.integers(0, 4), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_one_hot_row_returns_exactly_that_adapter(rule: MergeRule, count: int, chosen: int, seed: int) -> None:
    names = peers(count)
    adapters = {p: adapter(seed + i) for i, p in enumerate(names)}
    wanted = names[chosen % count]
    row = TrustRow({p: 1.0 if p == wanted else 0.0 for p in names})

    assert rule.merge(row, adapters, adapters[names[0]]).equals(adapters[wanted])


@every_rule
@given(weights=weights_st, seed=st.integers(0, 100), order=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_order_of_peers_changes_not_a_bit(rule: MergeRule, weights: list[float], seed: int, order: object) -> None:
    row = row_of(weights)
    adapters = {p: adapter(seed + i) for i, p in enumerate(peers(len(weights)))}
    shuffled = list(adapters)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    own = adapters[PeerId("peer0")]

    again = rule.merge(
        TrustRow({p: row.weights[p] for p in shuffled}), {p: adapters[p] for p in reversed(shuffled)}, own
    )

    assert again.equals(rule.merge(row, adapters, own))


@every_rule
@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_names_of_peers_do_not_matter(rule: MergeRule, weights: list[float], seed: int) -> None:
    names = peers(len(weights))
    others = [PeerId(f"another{len(names) - i}") for i in range(len(names))]
    adapters = {p: adapter(seed + i) for i, p in enumerate(names)}
    renamed = {new: adapters[old] for old, new in zip(names, others, strict=True)}

    before = rule.merge(row_of(weights), adapters, adapters[names[0]])
    after = rule.merge(row_of(weights, others), renamed, adapters[names[0]])

    assert distance(before, after) <= 1e-5 * max(1.0, before.norm())


@every_rule
@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_equal_adapters_merge_to_themselves(rule: MergeRule, weights: list[float], seed: int) -> None:
    same = adapter(seed)
    adapters = dict.fromkeys(peers(len(weights)), same)

    merged = rule.merge(row_of(weights), adapters, same)

    assert distance(merged, same) <= 1e-5 * same.norm()


@every_mean
@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_peers_that_share_their_a_get_it_back_with_the_mean_of_b(
    rule: MergeRule, weights: list[float], seed: int
) -> None:
    names, row = peers(len(weights)), row_of(weights)
    shared = {n: t for n, t in adapter(seed).tensors.items() if n.endswith("lora_A")}
    adapters = {p: Adapter({**adapter(seed + 1 + i).tensors, **shared}) for i, p in enumerate(names)}

    merged = rule.merge(row, adapters, adapters[names[0]])

    for path, a, b in merged.pairs():
        mean_b = sum(w * adapters[p].tensors[f"{path}.lora_B"] for p, w in row.weights.items())
        assert torch.allclose(a, shared[f"{path}.lora_A"], atol=1e-4)
        assert torch.allclose(b, mean_b, atol=1e-4)  # type: ignore[arg-type]


@every_rule
def test_untrained_adapters_merge_to_a_start_that_can_still_learn(rule: MergeRule) -> None:
    start = Adapter({n: t if n.endswith("lora_A") else torch.zeros_like(t) for n, t in adapter(0).tensors.items()})
    adapters = dict.fromkeys(peers(3), start)

    merged = rule.merge(row_of([1, 1, 1]), adapters, start)

    assert distance(merged, start) <= 1e-5 * start.norm()


@every_rule
def test_the_arguments_are_left_as_they_were(rule: MergeRule) -> None:
    adapters = {p: adapter(i) for i, p in enumerate(peers(3))}

    rule.merge(row_of([1, 2, 3]), adapters, adapters[PeerId("peer0")])

    assert all(adapters[p].equals(adapter(i)) for i, p in enumerate(peers(3)))


@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_every_entry_of_a_factor_mean_lies_between_those_of_the_peers(weights: list[float], seed: int) -> None:
    names = peers(len(weights))
    adapters = {p: adapter(seed + i) for i, p in enumerate(names)}
    stacked = torch.stack([adapters[p].vector() for p in names])

    merged = RULES.make("factor-mean").merge(row_of(weights), adapters, adapters[names[0]]).vector()

    assert (merged >= stacked.amin(0) - 1e-6).all()
    assert (merged <= stacked.amax(0) + 1e-6).all()


def test_a_factor_mean_is_the_weighted_mean_of_each_factor() -> None:
    adapters = {p: adapter(i) for i, p in enumerate(peers(3))}

    merged = RULES.make("factor-mean").merge(row_of([0.2, 0.3, 0.5]), adapters, adapters[PeerId("peer0")])

    wanted = 0.2 * adapter(0).vector() + 0.3 * adapter(1).vector() + 0.5 * adapter(2).vector()
    assert torch.allclose(merged.vector(), wanted, atol=1e-6)


@pytest.mark.parametrize("out_features", [2, 5, OUT, 40])
@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_core_svd_is_the_best_adapter_of_the_own_rank(out_features: int, weights: list[float], seed: int) -> None:
    row = row_of(weights)
    adapters = {p: adapter(seed + i, out_features=out_features) for i, p in enumerate(peers(len(weights)))}

    merged = RULES.make("core-svd").merge(row, adapters, adapters[PeerId("peer0")])

    for path, product in products(merged).items():
        u, s, vt = torch.linalg.svd(product_sum(row, adapters, path), full_matrices=False)
        best = (u[:, :RANK] * s[:RANK]) @ vt[:RANK]
        assert torch.allclose(product, best, atol=1e-4 * float(s[0]))


@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_factors_of_core_svd_stay_of_the_size_of_the_own(weights: list[float], seed: int) -> None:
    adapters = {p: adapter(seed + i) for i, p in enumerate(peers(len(weights)))}
    own = adapters[PeerId("peer0")]

    merged = RULES.make("core-svd").merge(row_of(weights), adapters, own)

    for path, a, _ in merged.pairs():
        assert torch.linalg.cond(a.double()) <= 10.1
        assert a.norm() <= 1.01 * own.tensors[f"{path}.lora_A"].norm()


def of_rank(whole: Adapter, rank: int) -> Adapter:
    return Adapter({n: t[:rank] if n.endswith("lora_A") else t[:, :rank] for n, t in whole.tensors.items()})


@given(ranks=st.lists(st.integers(1, RANK), min_size=2, max_size=4), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_core_svd_is_flexlora_a_stack_of_unequal_ranks_cut_at_each_peers_own(ranks: list[int], seed: int) -> None:
    row = row_of([1.0 + i for i in range(len(ranks))])
    adapters = {p: of_rank(adapter(seed + i), rank) for i, (p, rank) in enumerate(zip(row.weights, ranks, strict=True))}

    for peer, rank in zip(adapters, ranks, strict=True):
        merged = RULES.make("core-svd").merge(row, adapters, adapters[peer])

        for path, product in products(merged).items():
            stacked_a = torch.cat([w * adapters[p].tensors[f"{path}.lora_A"].double() for p, w in row.weights.items()])
            stacked_b = torch.cat([adapters[p].tensors[f"{path}.lora_B"].double() for p in row.weights], dim=1)
            u, s, vt = torch.linalg.svd(stacked_b @ stacked_a, full_matrices=False)
            torch.testing.assert_close(product, (u[:, :rank] * s[:rank]) @ vt[:rank], atol=1e-4, rtol=1e-4)
        assert merged.schema == adapters[peer].schema


def test_core_svd_by_energy_keeps_the_fewest_components_that_hold_it_and_begins_anew_with_the_rest() -> None:
    adapters = {p: adapter(i) for i, p in enumerate(peers(2))}
    row, own = row_of([1, 1]), adapters[PeerId("peer0")]

    for path, product in products(RULES.make("core-svd", {"energy": 0.5}).merge(row, adapters, own)).items():
        u, s, vt = torch.linalg.svd(product_sum(row, adapters, path), full_matrices=False)
        fewest = next(k for k in range(1, len(s) + 1) if s[:k].square().sum() >= 0.5 * s.square().sum())
        assert fewest < RANK
        torch.testing.assert_close(product, (u[:, :fewest] * s[:fewest]) @ vt[:fewest], atol=1e-4, rtol=1e-4)
    merged = RULES.make("core-svd", {"energy": 0.5}).merge(row, adapters, own)
    assert all(torch.linalg.matrix_rank(a.double()) == RANK for _, a, _ in merged.pairs())
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="energy is a part"):
            CoreSvd(energy=wrong)


def test_core_svd_of_a_used_and_an_unused_direction_keeps_every_row_of_a_alive() -> None:
    start = adapter(0)
    trained = Adapter(
        {n: t if n.endswith("lora_A") else t * torch.tensor([1.0, 0, 0]) for n, t in start.tensors.items()}
    )

    merged = RULES.make("core-svd").merge(row_of([1, 1]), dict(zip(peers(2), (trained, trained), strict=True)), trained)

    for path, a, _ in merged.pairs():
        assert torch.allclose(a, start.tensors[f"{path}.lora_A"], atol=1e-4)


def test_core_svd_says_that_moments_lose_their_meaning() -> None:
    assert RULES.find("core-svd").resets_moments
    assert RULES.find("core-svd").on_products
    assert not RULES.find("factor-mean").resets_moments


@given(weights=weights_st, seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_the_error_of_a_merge_is_that_of_the_products_in_full(weights: list[float], seed: int) -> None:
    row = row_of(weights)
    adapters = {p: adapter(seed + i) for i, p in enumerate(peers(len(weights)))}
    merged = RULES.make("factor-mean").merge(row, adapters, adapters[PeerId("peer0")])

    missed = wanted = 0.0
    for path, product in products(merged).items():
        total = product_sum(row, adapters, path)
        missed, wanted = missed + float((total - product).norm() ** 2), wanted + float(total.norm() ** 2)

    assert product_error(row, adapters, merged) == pytest.approx((missed / wanted) ** 0.5, abs=1e-6)


def test_core_svd_is_never_further_from_the_products_than_the_factor_mean() -> None:
    adapters, row = {p: adapter(i) for i, p in enumerate(peers(4))}, row_of([4, 3, 2, 1])
    own = adapters[PeerId("peer0")]

    errors = {name: product_error(row, adapters, RULES.make(name).merge(row, adapters, own)) for name in MEANS}

    assert 0.0 < errors["core-svd"] < errors["factor-mean"]


def test_the_error_of_merging_nothing_learnt_is_zero() -> None:
    start = Adapter({n: t if n.endswith("lora_A") else torch.zeros_like(t) for n, t in adapter(0).tensors.items()})

    assert product_error(row_of([1.0]), {PeerId("peer0"): start}, start) == 0.0
