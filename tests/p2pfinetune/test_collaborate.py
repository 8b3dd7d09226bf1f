"""One round's mathematics as a composition of any scheme and any rule."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.merge import RULES, MergeRule
from p2pfinetune.model.adapter import Adapter, FactorSet
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round.collaborate import Compared, bounded, collaborate, held_back, merged_by
from p2pfinetune.trust import SCHEMES, TrustContext

ME, FRIEND, STRANGER = PeerId("me"), PeerId("friend"), PeerId("stranger")


def adapter(value: float) -> Adapter:
    return Adapter({"x.lora_A": torch.full((1, 2), value), "x.lora_B": torch.full((3, 1), value)})


OWN, NEIGHBOURS = adapter(1.0), {FRIEND: adapter(2.0), STRANGER: adapter(6.0)}


@dataclass(frozen=True)
class World:
    shares: Mapping[PeerId, tuple[float, ...]] = field(default_factory=dict)
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    initial: Adapter = field(default_factory=lambda: adapter(0.0))

    def moved(self, adapter: Adapter) -> FactorSet:
        return adapter.minus(self.initial)

    def loss(self, adapter: Adapter) -> float:
        return 0.0 if float(adapter.tensors["x.lora_A"][0, 0]) < 5 else float("nan")

    def losses(self, adapters: list[Adapter]) -> list[float]:
        return [self.loss(adapter) for adapter in adapters]

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        return make()

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> torch.Tensor:
        raise NotImplementedError

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        raise NotImplementedError


def round_of(scheme: str, allowed: frozenset[PeerId] | None = None) -> Compared:
    context: TrustContext = World({ME: (1.0, 0.0), FRIEND: (1.0, 0.0), STRANGER: (0.0, 1.0)})
    return collaborate(ME, OWN, NEIGHBOURS, SCHEMES.make(scheme), context, allowed)


def merge_of(heard: Compared, neighbours: Mapping[PeerId, Adapter] = NEIGHBOURS) -> Adapter:
    return merged_by(heard.row, ME, OWN, neighbours, RULES.make("factor-mean"))


def test_the_merge_follows_the_row() -> None:
    heard = round_of("uniform")

    assert heard.row.weights == pytest.approx(dict.fromkeys((ME, FRIEND, STRANGER), 1 / 3))
    assert float(merge_of(heard).tensors["x.lora_B"][0, 0]) == pytest.approx(3.0)


def test_a_mask_reaches_the_row_and_the_merge() -> None:
    heard = round_of("uniform", frozenset({FRIEND}))

    assert heard.row.weights == pytest.approx({ME: 0.5, FRIEND: 0.5, STRANGER: 0.0})
    assert float(merge_of(heard).tensors["x.lora_B"][0, 0]) == pytest.approx(1.5)


def test_listening_to_nobody_gives_the_own_adapter_itself() -> None:
    assert merge_of(round_of("local")) is OWN


def test_without_neighbours_the_own_adapter_stays() -> None:
    heard = collaborate(ME, OWN, {}, SCHEMES.make("uniform"), World())

    assert heard.row.weights == {ME: 1.0}
    assert merge_of(heard, {}) is OWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording(MergeRule):
    seen: list[dict[PeerId, float]] = field(default_factory=list)

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        assert row.weights.keys() == adapters.keys()
        self.seen.append(dict(row.weights))
        return own


@pytest.mark.parametrize("scheme", ["oracle", "validation"])
def test_the_rule_never_sees_a_peer_that_weighs_nothing(scheme: str) -> None:
    rule = Recording()
    context = World({ME: (1.0, 0.0), FRIEND: (1.0, 0.0), STRANGER: (0.0, 1.0)})

    heard = collaborate(ME, OWN, NEIGHBOURS, SCHEMES.make(scheme), context)
    merged_by(heard.row, ME, OWN, NEIGHBOURS, rule)

    assert heard.row.weights[STRANGER] == 0.0
    assert rule.seen == [{FRIEND: 0.5, ME: 0.5}]


def test_an_update_in_my_own_name_does_not_replace_mine() -> None:
    others = {ME: adapter(9.0), FRIEND: adapter(2.0)}

    heard = collaborate(ME, OWN, others, SCHEMES.make("uniform"), World())

    assert float(merge_of(heard, others).tensors["x.lora_B"][0, 0]) == pytest.approx(1.5)


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_a_row_that_is_held_back_lies_between_me_and_the_row(part: float) -> None:
    row = TrustRow({ME: 0.2, FRIEND: 0.8})

    nearer = held_back(row, ME, part)

    assert nearer.weights == pytest.approx({ME: 1.0 - 0.8 * part, FRIEND: 0.8 * part})
    assert row.weights[ME] == 0.2


def test_a_row_held_back_altogether_is_the_own_adapter() -> None:
    nobody = held_back(TrustRow({ME: 0.2, FRIEND: 0.8}), ME, 0.0)

    assert merged_by(nobody, ME, OWN, NEIGHBOURS, RULES.make("factor-mean")) is OWN


rows = (
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8)
    .filter(any)
    .map(lambda parts: TrustRow({PeerId(f"{n}"): part / sum(parts) for n, part in enumerate(parts)}))
)
shares = st.floats(0.01, 1.0)
FIRST = PeerId("0")


@given(rows, shares)
def test_nobody_but_me_weighs_more_than_the_bound_and_the_row_still_sums_to_one(row: TrustRow, most: float) -> None:
    weights = bounded(row, FIRST, most).weights

    assert weights.keys() == row.weights.keys()
    assert sum(weights.values()) == pytest.approx(1.0)
    assert all(weight <= most for peer, weight in weights.items() if peer != FIRST)


@given(rows, shares)
def test_what_is_above_the_bound_goes_to_me_and_to_nobody_else(row: TrustRow, most: float) -> None:
    weights = bounded(row, FIRST, most).weights

    assert weights[FIRST] >= row.weights[FIRST]
    assert all(weights[peer] == min(weight, most) for peer, weight in row.weights.items() if peer != FIRST)


@given(rows, shares)
def test_the_order_among_neighbours_stays(row: TrustRow, most: float) -> None:
    weights = bounded(row, FIRST, most).weights

    others = [peer for peer in row.weights if peer != FIRST]
    for one, other in itertools.permutations(others, 2):
        assert weights[one] >= weights[other] or row.weights[one] < row.weights[other]


@given(rows, shares)
def test_a_bounded_row_is_bounded_already(row: TrustRow, most: float) -> None:
    once = bounded(row, FIRST, most)

    assert bounded(once, FIRST, most) is once
    assert bounded(row, FIRST, 1.0).weights == pytest.approx(row.weights)
