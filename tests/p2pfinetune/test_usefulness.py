"""Who of those that a scheme trusts is of use: copies, shadows and strangers against friends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
import torch

from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round.collaborate import merged_by
from p2pfinetune.round.second_look import useful_row
from p2pfinetune.trust import SCHEMES, TrustContext, TrustScheme

ME, FRIEND, COPY, LIAR = PeerId("me"), PeerId("friend"), PeerId("copy"), PeerId("liar")
MIXED = partial(merged_by, me=ME, rule=RULES.make("factor-mean"))
AIM = 3.0  # what the best adapter would hold


def adapter(value: float) -> Adapter:
    return Adapter({"x.lora_A": torch.full((1, 2), value), "x.lora_B": torch.full((3, 1), value)})


def value_of(held: Adapter) -> float:
    return float(held.tensors["x.lora_A"][0, 0])


@dataclass(frozen=True)
class Measured:
    loss: float


@dataclass
class World:
    """The loss is the squared distance to the aim."""

    shares: Mapping[PeerId, tuple[float, ...]] = field(default_factory=dict)
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    initial: Adapter = field(default_factory=lambda: adapter(0.0))
    measured: list[float] = field(default_factory=list)

    def moved(self, held: Adapter) -> Adapter:
        return held.minus(self.initial)

    def loss(self, held: Adapter) -> float:
        return self.losses([held])[0]

    def losses(self, adapters: Sequence[Adapter]) -> list[float]:
        return [found.loss for found in self.glances(adapters)]

    def glances(self, adapters: Sequence[Adapter]) -> list[Measured]:
        self.measured += [value_of(held) for held in adapters]
        return [Measured((value_of(held) - AIM) ** 2) for held in adapters]

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        return make()

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> torch.Tensor:
        raise NotImplementedError

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest(TrustScheme):
    """Trusts who holds what I hold, and hardly anybody else."""

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        distances = {peer: abs(value_of(held) - value_of(adapters[me])) for peer, held in adapters.items()}
        nearest = min(distance for peer, distance in distances.items() if peer != me)
        return {peer: -5.0 * (nearest if peer == me else distance) for peer, distance in distances.items()}


def looked_at(values: Mapping[PeerId, float], scheme: TrustScheme | None = None) -> tuple[TrustRow, TrustRow, World]:
    """The scheme's row and the other one, of somebody who holds 1."""
    chosen = scheme or SCHEMES.make("uniform")
    world = World()
    own, neighbours = adapter(1.0), {peer: adapter(value) for peer, value in values.items()}
    row = chosen.row(ME, {**neighbours, ME: own}, world)
    return row, useful_row(row, ME, own, neighbours, chosen, MIXED, world), world


def test_a_copy_of_mine_and_one_who_leads_away_weigh_nothing() -> None:
    _, useful, _ = looked_at({FRIEND: 3.0, COPY: 1.0, LIAR: -5.0})

    assert useful.weights == pytest.approx({ME: 0.5, FRIEND: 0.5, COPY: 0.0, LIAR: 0.0})


def test_who_brings_more_weighs_more() -> None:
    _, useful, _ = looked_at({FRIEND: 3.0, PeerId("less"): 1.5})

    gain, less = 4.0 - 1.0, 4.0 - 1.75**2
    assert useful.weights[PeerId("less")] / useful.weights[FRIEND] == pytest.approx(less / gain)
    assert useful.weights[FRIEND] == pytest.approx(useful.weights[ME])


def test_a_friend_behind_a_crowd_of_copies_is_found() -> None:
    crowd = {PeerId(f"copy-{number}"): 1.0 for number in range(5)}

    row, useful, _ = looked_at({FRIEND: 3.0, **crowd}, Nearest())

    assert row.weights[FRIEND] < 0.01
    assert useful.weights[FRIEND] == pytest.approx(0.5)


def test_where_all_are_alike_the_very_row_comes_back() -> None:
    row, useful, _ = looked_at({FRIEND: 2.0, PeerId("other"): 2.0})

    assert useful is row


def test_where_nobody_is_of_use_i_am_alone() -> None:
    _, useful, _ = looked_at({COPY: 1.0, LIAR: -5.0})

    assert useful.weights == {ME: 1.0, COPY: 0.0, LIAR: 0.0}


def test_a_copy_with_a_grain_of_use_does_not_hide_a_friend_either() -> None:
    crowd = {PeerId(f"copy-{number}"): 1.0 + 1e-3 * number for number in range(5)}

    _, useful, _ = looked_at({FRIEND: 3.0, **crowd}, Nearest())

    assert useful.weights[FRIEND] == pytest.approx(0.5)


def test_everybody_is_measured_once_and_half_of_it_is_mine() -> None:
    _, _, world = looked_at({FRIEND: 3.0, LIAR: -5.0})

    assert world.measured == [1.0, 2.0, -2.0]


def test_who_cannot_be_measured_weighs_nothing() -> None:
    _, useful, _ = looked_at({FRIEND: 3.0, LIAR: float("inf")})

    assert useful.weights == pytest.approx({ME: 0.5, FRIEND: 0.5, LIAR: 0.0})


def test_who_weighs_nothing_in_the_row_stays_out() -> None:
    world, own, neighbours = World(), adapter(1.0), {FRIEND: adapter(3.0), COPY: adapter(1.0), LIAR: adapter(2.0)}
    row = TrustRow({ME: 0.5, FRIEND: 0.25, COPY: 0.25, LIAR: 0.0})

    useful = useful_row(row, ME, own, neighbours, SCHEMES.make("uniform"), MIXED, world)

    assert useful.weights == pytest.approx({ME: 0.5, FRIEND: 0.5, COPY: 0.0, LIAR: 0.0})
