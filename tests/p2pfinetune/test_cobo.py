"""CoBo: projections, weights against the paper's loop written out, sketches, springs, and what lies come to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import Adapter, FactorSet, attach
from p2pfinetune.model.base import Base
from p2pfinetune.names import Digest, PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round import guard
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.pairs import SKETCH, between, draw_of, length, product, sketch
from p2pfinetune.round.progress import RoundProgress
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.trust import NOTHING, SCHEMES, SchemeState
from p2pfinetune.trust.cobo import WEIGHTS, Cobo, onto_box, onto_simplex
from tests.p2pfinetune.test_kept_by_schemes import corpus

ME, FRIEND, OTHER = PeerId("p0"), PeerId("friend"), PeerId("other")
POINTS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=7)


@dataclass(frozen=True)
class Heard:
    """All of a context that CoBo looks at."""

    products: dict[PeerId, float] = field(default_factory=dict)
    kept: SchemeState = NOTHING


def named(entries: list[float]) -> dict[PeerId, float]:
    return {PeerId(f"p{place}"): entry for place, entry in enumerate(entries)}


def slowly_onto_simplex(entries: list[float]) -> list[float]:
    """Halving: the one shift at which what stays above zero sums to one."""
    low, high = min(entries) - 2.0, max(entries)
    for _ in range(200):
        shift = (low + high) / 2
        total = sum(max(0.0, entry - shift) for entry in entries)
        low, high = (shift, high) if total > 1.0 else (low, shift)
    return [max(0.0, entry - low) for entry in entries]


@given(POINTS)
@settings(max_examples=100, deadline=None)
def test_a_projection_onto_the_simplex_is_that_of_a_slow_search(entries: list[float]) -> None:
    found = onto_simplex(named(entries))

    assert [*found.values()] == pytest.approx(slowly_onto_simplex(entries), abs=1e-9)
    assert math.fsum(found.values()) == pytest.approx(1.0)
    assert onto_simplex(found) == pytest.approx(found)


@given(POINTS, st.randoms())
@settings(max_examples=50, deadline=None)
def test_nothing_on_the_simplex_or_in_the_box_is_nearer_than_the_projection(entries: list[float], dice: Any) -> None:
    point = named(entries)

    def distance(other: dict[PeerId, float]) -> float:
        return math.dist([*point.values()], [other[peer] for peer in point])

    lots = [-math.log(1.0 - dice.random()) for _ in entries]
    on_simplex = named([lot / sum(lots) for lot in lots]) if sum(lots) > 0 else named([1.0] + [0.0] * (len(lots) - 1))
    in_box = named([dice.random() for _ in entries])

    assert distance(onto_simplex(point)) <= distance(on_simplex) + 1e-9
    assert distance(onto_box(point)) <= distance(in_box) + 1e-9
    assert onto_box(onto_box(point)) == onto_box(point)


def test_what_is_no_number_is_no_point() -> None:
    with pytest.raises(ValueError, match="finite"):
        onto_simplex(named([math.nan, 1.0]))


def paper(domain: str, gamma: float, rounds: list[dict[PeerId, float]]) -> dict[PeerId, float]:
    """Weights of one peer among three, by the paper's loop written out with lists."""
    order = [ME, FRIEND, OTHER]
    weights = [0.0, 1.0, 1.0] if domain == "box" else [0.0, 0.5, 0.5]
    for products in rounds:
        weights = [w + gamma * products.get(peer, 0.0) for w, peer in zip(weights, order, strict=True)]
        weights = [min(1.0, max(0.0, w)) for w in weights] if domain == "box" else slowly_onto_simplex(weights)
    return dict(zip(order, weights, strict=True))


@pytest.mark.parametrize("domain", ["simplex", "box"])
def test_weights_are_those_of_the_papers_loop_and_the_row_is_their_pull(domain: str) -> None:
    rounds = [{FRIEND: 0.3}, {FRIEND: 0.1, OTHER: -0.9}, {}, {OTHER: 0.2}, {FRIEND: -0.05, OTHER: -3.0}]
    scheme = Cobo(gamma=0.4, rho=0.25, domain=domain)  # type: ignore[arg-type]
    adapters: Any = dict.fromkeys((ME, FRIEND, OTHER))
    kept = NOTHING
    for number, products in enumerate(rounds, start=1):
        row, kept = scheme.judged(ME, adapters, Heard(products, kept))  # type: ignore[arg-type]
        expected = paper(domain, 0.4, rounds[:number])
        others = {peer: 0.25 * expected[peer] for peer in (FRIEND, OTHER)}
        assert {peer: row.weights[peer] for peer in others} == pytest.approx(others, abs=1e-9)
    assert {peer: kept.tables[WEIGHTS][peer] for peer in (FRIEND, OTHER)} == pytest.approx(
        {peer: expected[peer] for peer in (FRIEND, OTHER)}, abs=1e-9
    )


def test_a_box_that_pulls_more_than_all_of_the_way_goes_all_of_it() -> None:
    row = Cobo(domain="box", rho=0.8).row(ME, dict.fromkeys((ME, FRIEND, OTHER)), Heard())  # type: ignore[arg-type]

    assert row.weights == pytest.approx({ME: 0.0, FRIEND: 0.5, OTHER: 0.5})


def test_whoever_is_away_keeps_its_weight_and_a_newcomer_begins_as_all_did() -> None:
    scheme, third = Cobo(domain="box"), PeerId("third")
    _, kept = scheme.judged(ME, dict.fromkeys((ME, FRIEND, OTHER)), Heard({OTHER: -0.3}))  # type: ignore[arg-type]

    _, kept = scheme.judged(ME, dict.fromkeys((ME, FRIEND, third)), Heard({}, kept))  # type: ignore[arg-type]

    assert kept.tables[WEIGHTS] == pytest.approx({OTHER: 0.7, FRIEND: 1.0, third: 1.0})


@pytest.mark.parametrize(
    "wrong",
    [{"gamma": 0.0}, {"rho": 0.0}, {"rho": 2.0}, {"pair": 1.5}, {"domain": "ball"}, {"pull": "push"}],
)
def test_options_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="cobo"):
        SCHEMES.make("cobo", wrong)


@pytest.mark.parametrize("lie", ["my own gradient", "a huge one"])
def test_the_best_lie_is_worth_what_a_copy_of_me_would_be(lie: str) -> None:
    mine = np.random.default_rng(0).normal(size=SKETCH).astype(np.float32)
    theirs = mine if lie == "my own gradient" else np.float32(1e6) * mine
    scheme = Cobo()

    counts = scheme.agreement(product(mine, theirs), length(mine), length(theirs))

    assert counts == pytest.approx(product(mine, mine), rel=1e-6)
    assert Cobo(clip=False).agreement(product(mine, theirs), length(mine), length(theirs)) >= counts * (1 - 1e-6)


def factors(seed: int, entries: int = 4000) -> FactorSet:
    generator = torch.Generator().manual_seed(seed)
    return FactorSet({"layer.lora_A": torch.randn((8, entries // 8), generator=generator)})


def test_a_sketch_keeps_inner_products_within_the_error_that_is_said() -> None:
    one, other = factors(1), factors(2)
    near = FactorSet({name: t + 0.5 * other.tensors[name] for name, t in one.tensors.items()})
    for second in (other, near):
        exact = float(one.vector().double() @ second.vector().double())
        errors = [product(sketch(one, draw), sketch(second, draw)) - exact for draw in range(40)]
        said = math.sqrt(((one.norm() * second.norm()) ** 2 + exact**2) / SKETCH)
        assert np.std(errors) <= 1.3 * said
        assert abs(np.mean(errors)) <= 4 * said / math.sqrt(len(errors))


def splitmix64(draw: int, place: int) -> int:
    """With Python's whole numbers."""
    every, mixed = (1 << 64) - 1, (draw + (place + 1) * 0x9E3779B97F4A7C15) % (1 << 64)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & every
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & every
    return mixed ^ (mixed >> 31)


def test_a_sketch_is_the_sum_by_drawn_places_and_signs_and_the_same_everywhere() -> None:
    a, b = Digest("a" * 64), Digest("b" * 64)
    slope = FactorSet({"l.lora_A": torch.arange(12.0).reshape(3, 4)})
    expected = [0.0] * SKETCH
    for place in range(12):
        bits = splitmix64(draw_of(a, b), place)
        expected[bits >> 52] += place * (1 - 2 * (bits & 1))

    assert sketch(slope, draw_of(a, b)).tolist() == expected
    assert draw_of(a, b) == draw_of(b, a) == 0xE2276E2ADD091780


class Home:
    """A peer that asks, and what two others share."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.options = LearnerOptions(
            spec=AdapterSpec(rank=2),
            training=TrainingOptions(batch_size=2, context=16, lr=5e-3),
            trust="cobo", trust_options={"rho": 0.5}, second_look=False, guarded=False,
        )  # fmt: skip
        self.adapted = attach(base, self.options.spec)
        self.stack = AdapterStack(self.adapted)
        self.shared = {peer: self.taught(seed) for seed, peer in ((1, FRIEND), (2, OTHER))}

    def learner(self, seed: int = 0, **changes: Any) -> Learner:
        options = msgspec.structs.replace(self.options, **changes)
        name = PeerId(f"p{seed}")
        return Learner(self.base, corpus(seed), options, me=name, group="g", adapted=self.adapted, stack=self.stack)

    def taught(self, seed: int) -> LoraUpdate:
        other = self.learner(seed)
        other.train(2)
        update = other.admit(other.encode("fp32"), "fp32")
        assert isinstance(update, LoraUpdate)
        return update


@pytest.fixture(scope="module")
def home(tiny_base: Base) -> Home:
    return Home(tiny_base)


def test_the_middle_is_the_same_from_both_sides_and_each_takes_its_own_gradient_there(home: Home) -> None:
    one, two = home.shared.values()
    mine, theirs = home.learner(0), home.learner(2)

    (here,), (there,) = (side.middle.slopes([pair]) for side, pair in ((mine, (one, two)), (theirs, (two, one))))

    initial = home.adapted.initial
    assert between(one, two).adapter(initial).equals(between(two, one).adapter(initial))
    middle = {
        n: (a + b) / 2
        for (n, a), b in zip(one.adapter(initial).tensors.items(), two.adapter(initial).tensors.values(), strict=True)
    }
    expected = mine._context({}, RoundProgress(None, 1)).slopes([Adapter(middle)])[0]
    for name, slope in here.tensors.items():
        assert torch.allclose(slope, expected.tensors[name], atol=1e-6)
    assert not torch.allclose(here.vector(), there.vector())


@pytest.mark.parametrize("sharing", ["a", "b"])
def test_what_stays_on_a_device_is_no_part_of_what_is_sent(home: Home, sharing: str) -> None:
    spec = AdapterSpec(rank=2, sharing=sharing)  # type: ignore[arg-type]
    adapted = attach(home.base, spec)
    learner = Learner(
        home.base, corpus(0), msgspec.structs.replace(home.options, spec=spec), me=ME, group="g", adapted=adapted
    )
    update = learner.admit(learner.encode("fp32"), "fp32")
    assert isinstance(update, LoraUpdate)

    (slope,) = learner.middle.slopes([(update, update)])

    assert {name[-1].lower() for name in slope.tensors} == {sharing}


def test_a_weak_device_answers_with_zeros_for_what_it_does_not_hold(home: Home) -> None:
    spec = AdapterSpec(rank=2, own_rank=1)
    learner = Learner(home.base, corpus(0), msgspec.structs.replace(home.options, spec=spec), me=ME, group="g")
    pair = tuple(home.shared.values())

    (slope,) = learner.middle.slopes([pair])

    assert slope.schema == home.shared[FRIEND].delta.schema
    assert all(not t[1:].any() for name, t in slope.tensors.items() if name.endswith("A"))


def test_agreements_move_the_row_and_a_restart_keeps_the_weights(home: Home, tmp_path: Path) -> None:
    learner, again = home.learner(), home.learner()
    learner.collaborate(home.shared, products={FRIEND: 0.2, OTHER: -0.4})
    learner.save(tmp_path / "saved")

    again.restore(tmp_path / "saved")

    rows = [one.collaborate(home.shared).row.weights for one in (learner, again)]
    assert rows[0] == rows[1]
    assert rows[0][FRIEND] > rows[0][OTHER]


def test_a_spring_draws_every_gradient_as_the_papers_sum_does_and_survives_a_restart(
    home: Home, tmp_path: Path
) -> None:
    options = {"pull": "spring", "rho": 0.7}
    learner, again = (home.learner(trust_options=options) for _ in range(2))
    learner.train(1)
    own = learner.own()

    row = learner.collaborate(home.shared, products={FRIEND: 0.2}).row

    pull = learner._spring.pull
    assert pull is not None
    assert learner.personal() is own
    initial = home.adapted.initial
    for name, x in own.tensors.items():
        theirs = {peer: update.adapter(initial).tensors[name] for peer, update in home.shared.items()}
        expected = 0.7 * sum(row.weights[peer] * (x - tensor) for peer, tensor in theirs.items())
        assert torch.allclose(pull.strength * (x - pull.adapter.tensors[name]), expected, atol=1e-6)
    learner.save(tmp_path / "saved")
    again.restore(tmp_path / "saved")
    learner.train(2)
    again.train(2)
    assert learner.own().equals(again.own())
    again.collaborate({})
    assert again._spring.pull is None or again._spring.pull.strength > 0.0


def test_a_merge_that_the_guard_refuses_draws_nobody_and_ends_the_spring_before(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = home.learner(trust_options={"pull": "spring"})
    learner.collaborate(home.shared)
    before = learner._spring.pull
    learner.train(1)
    learner.options = msgspec.structs.replace(learner.options, guarded=True)
    monkeypatch.setattr(guard, "_reason", lambda *_: guard.WORSE_THAN_OWN)

    refused = learner.collaborate(home.shared)

    assert refused.reason == guard.WORSE_THAN_OWN
    assert before is not None
    assert learner._spring.pull is None
