"""The mixture row follows the loss of the merged adapter; its slopes are checked against finite differences."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import Adapter, FactorSet
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.trust import SCHEMES
from p2pfinetune.trust.mixture import Mixture

ME = PeerId("me")
PEERS = (ME, PeerId("friend"), PeerId("stranger"))


def adapter(seed: int) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter(
        {"x.lora_A": torch.randn((2, 3), generator=generator), "x.lora_B": torch.randn((4, 2), generator=generator)}
    )


@dataclass(frozen=True)
class Bowl:
    """The loss is half the squared distance of the product BA from that of a target."""

    target: Adapter
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    shares: Mapping[PeerId, tuple[float, ...]] = field(default_factory=dict)
    initial: Adapter = field(default_factory=lambda: adapter(99))

    def _loss(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        goal = self.target.tensors["x.lora_B"] @ self.target.tensors["x.lora_A"]
        return 0.5 * (tensors["x.lora_B"] @ tensors["x.lora_A"] - goal).double().square().sum()

    def moved(self, adapter: Adapter) -> FactorSet:
        return adapter.minus(self.initial)

    def loss(self, adapter: Adapter) -> float:
        return float(self._loss(adapter.tensors))

    def losses(self, adapters: list[Adapter]) -> list[float]:
        return [self.loss(adapter) for adapter in adapters]

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        return make()

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> torch.Tensor:
        raise NotImplementedError

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        live = {name: tensor.clone().requires_grad_() for name, tensor in adapter.tensors.items()}
        found = Adapter(dict(zip(live, torch.autograd.grad(self._loss(live), list(live.values())), strict=True)))
        return [(found, 10)] * parts  # every part says the same, so there is no doubt


def world(seed: int) -> tuple[dict[PeerId, Adapter], Bowl]:
    adapters = {peer: adapter(10 * seed + i) for i, peer in enumerate(PEERS)}
    return adapters, Bowl(adapter(10 * seed + 5))


def merged_loss(weights: Mapping[PeerId, float], adapters: Mapping[PeerId, Adapter], bowl: Bowl) -> float:
    return bowl.loss(RULES.make("factor-mean").merge(TrustRow(weights), adapters, adapters[ME]))


@given(seed=st.integers(0, 200), raw=st.tuples(*[st.floats(0.1, 1.0)] * 3))
@settings(max_examples=25, deadline=None)
def test_slopes_are_the_derivatives_of_the_merged_loss(seed: int, raw: tuple[float, float, float]) -> None:
    adapters, bowl = world(seed)
    weights = {peer: part / math.fsum(raw) for peer, part in zip(PEERS, raw, strict=True)}
    step = 1e-3

    slopes = Mixture(confidence=1.0)._slopes(weights, adapters, bowl)

    towards = {
        peer: {p: (1 - step) * w + step * (p == peer) for p, w in weights.items()} for peer in PEERS
    }  # from w towards the corner of one peer: the derivative is that peer's slope, the mean taken away
    back = {peer: {p: (1 + step) * w - step * (p == peer) for p, w in weights.items()} for peer in PEERS}
    for peer in PEERS:
        rise = merged_loss(towards[peer], adapters, bowl) - merged_loss(back[peer], adapters, bowl)
        assert slopes[peer] == pytest.approx(rise / (2 * step), rel=2e-2, abs=2e-2)


@given(seed=st.integers(0, 200), raw=st.tuples(*[st.floats(0.1, 1.0)] * 3))
@settings(max_examples=25, deadline=None)
def test_product_slopes_are_the_derivatives_of_the_loss_of_the_summed_products(
    seed: int, raw: tuple[float, float, float]
) -> None:
    adapters, bowl = world(seed)
    weights = {peer: part / math.fsum(raw) for peer, part in zip(PEERS, raw, strict=True)}
    products = {p: a.tensors["x.lora_B"] @ a.tensors["x.lora_A"] for p, a in adapters.items()}
    goal = bowl.target.tensors["x.lora_B"] @ bowl.target.tensors["x.lora_A"]
    residual = sum(w * products[p] for p, w in weights.items()) - goal
    raw_slopes = {p: float((residual.double() * products[p]).sum()) for p in PEERS}
    mean = sum(weights[p] * raw_slopes[p] for p in PEERS)

    slopes = Mixture(of="products", confidence=1.0)._slopes(weights, adapters, bowl)

    assert slopes == pytest.approx({p: raw_slopes[p] - mean for p in PEERS}, rel=1e-3, abs=1e-3)


@given(seed=st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_small_steps_never_make_the_merge_worse_than_the_uniform_one(seed: int) -> None:
    adapters, bowl = world(seed)

    row = Mixture(eta=0.01, steps=20).row(ME, adapters, bowl)

    assert merged_loss(row.weights, adapters, bowl) <= merged_loss(dict.fromkeys(PEERS, 1 / 3), adapters, bowl) + 1e-6


def test_the_weight_goes_to_the_peer_whose_adapter_is_the_best() -> None:
    adapters, bowl = world(3)
    bowl = Bowl(adapters[PeerId("friend")])

    row = Mixture(eta=0.1, steps=200, floor=0.01).row(ME, adapters, bowl)

    assert max(row.weights, key=lambda peer: row.weights[peer]) == "friend"


def test_a_row_goes_on_from_the_last_one() -> None:
    adapters, bowl = world(4)
    started = Bowl(bowl.target, last_row={ME: 0.9, PeerId("friend"): 0.1, PeerId("stranger"): 0.0})

    row = Mixture(eta=1e-9, steps=1, floor=0.3).row(ME, adapters, started)

    assert row.weights == pytest.approx({ME: 0.73, "friend": 0.17, "stranger": 0.1})


def test_a_newcomer_can_rise_from_the_floor() -> None:
    adapters, _ = world(5)
    newcomer = PeerId("stranger")
    started = Bowl(adapters[newcomer], last_row={ME: 0.5, PeerId("friend"): 0.5})

    row = Mixture(eta=0.3, steps=100).row(ME, adapters, started)

    assert row.weights[newcomer] > 0.5


def test_a_slope_that_is_not_finite_leaves_the_start() -> None:
    adapters, _ = world(6)
    nowhere = Bowl(Adapter({name: torch.full_like(t, torch.inf) for name, t in adapters[ME].tensors.items()}))

    row = SCHEMES.make("mixture").row(ME, adapters, nowhere)

    assert row.weights == pytest.approx(dict.fromkeys(PEERS, 1 / 3))


@dataclass(frozen=True)
class Parted(Bowl):
    """Two parts of equal size, each with a target of its own."""

    second: Adapter = field(default_factory=lambda: adapter(98))

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        both = [Bowl(target).gradients(adapter)[0][0] for target in (self.target, self.second)]
        if parts == 1:
            mean = {name: (t + both[1].tensors[name]) / 2 for name, t in both[0].tensors.items()}
            return [(Adapter(mean), 20)]
        return [(gradient, 10) for gradient in both]


def test_parts_of_the_split_that_disagree_move_nothing() -> None:
    adapters = {peer: adapter(60 + i) for i, peer in enumerate(PEERS)}
    friend, stranger = adapters[PeerId("friend")], adapters[PeerId("stranger")]
    torn = Parted(target=friend, second=stranger)  # one part is for the friend and the other for the stranger

    cautious = Mixture(confidence=3.0).row(ME, adapters, torn)
    bold = Mixture(confidence=0.0).row(ME, adapters, torn)

    assert cautious.weights == pytest.approx(dict.fromkeys(PEERS, 1 / 3))
    assert bold.weights != pytest.approx(dict.fromkeys(PEERS, 1 / 3), abs=0.05)


def test_parts_that_agree_move_as_far_as_one_pass_over_all() -> None:
    adapters, bowl = world(3)

    assert Mixture(confidence=3.0).row(ME, adapters, bowl).weights == pytest.approx(
        Mixture(confidence=0.0).row(ME, adapters, bowl).weights
    )


@pytest.mark.parametrize("wrong", [{"confidence": -1.0}, {"confidence": math.nan}, {"parts": 1}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="confidence"):
        Mixture(**wrong)
