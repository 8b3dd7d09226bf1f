"""Several adapters in one layer: what it computes, what trains on which text, and what leaves the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from torch import Tensor, nn

from p2pfinetune.batched.layers import StackedLinear
from p2pfinetune.batched.mixtures import Factors, MixedFactors, balance
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.model.adapter import Adapter, attach, network_digest
from p2pfinetune.model.base import Base
from p2pfinetune.model.parts import of_expert
from p2pfinetune.model.traits import network_traits, other_sharings
from p2pfinetune.names import Mixing, PeerId, TrustRow, expert_of
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.simulation.config import AdapterChoice, PeerText, SimulationConfig
from p2pfinetune.speech import Piece, Sampling
from tests.p2pfinetune.test_learner import corpus

ME, FRIEND, OTHER = PeerId("me"), PeerId("friend"), PeerId("other")
TRAINING = TrainingOptions(batch_size=2, context=16, lr=5e-3, router_every=2, router_steps=1)
GENERALIST = AdapterSpec(rank=2, sharing="generalist", specialists=2)
INDIVIDUAL = AdapterSpec(rank=2, sharing="individual")
TWO_LEVEL = AdapterSpec(rank=4, sharing="two-level")
several = pytest.mark.parametrize("spec", [GENERALIST, INDIVIDUAL, TWO_LEVEL], ids=lambda spec: spec.sharing)


@pytest.fixture
def make(tiny_base: Base) -> Callable[..., Learner]:
    def learner(spec: AdapterSpec, me: PeerId = ME, text: Corpus | None = None, **changes: Any) -> Learner:
        options = LearnerOptions(spec=spec, training=TRAINING, tolerance=0.5, max_share=1.0, trust="uniform")
        return Learner(tiny_base, text or corpus(), structs.replace(options, **changes), me=me, group="test")

    return learner


def update(learner: Learner) -> LoraUpdate:
    admitted = learner.admit(learner.encode("fp32"), "fp32")
    assert isinstance(admitted, LoraUpdate)
    return admitted


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def token_by_token(x_kmi: Tensor, base_oi: Tensor, factors: list[tuple[Tensor, Tensor]], router: Tensor) -> Tensor:
    """The slow, obvious way: for each token, its two experts by the largest logits, and their softmax."""
    rows = []
    for k, tokens in enumerate(x_kmi):
        for x in tokens:
            logits = router[k] @ x if router.shape[2] > 1 else router[k, :, 0]
            chosen = sorted(range(len(factors)), key=lambda e: -float(logits[e].detach()))
            chosen = chosen[:2] if router.shape[2] > 1 else chosen
            total = sum(torch.exp(logits[e]) for e in chosen)
            y = base_oi @ x
            for e in chosen:
                a_kri, b_kro = factors[e]
                y = y + 0.5 * torch.exp(logits[e]) / total * (b_kro[k].T @ (a_kri[k] @ x))
            rows.append(y)
    return torch.stack(rows).unflatten(0, x_kmi.shape[:2])


@pytest.mark.parametrize("mixing", ["token", "layer"])
def test_a_layer_with_three_adapters_is_what_one_token_at_a_time_gives_and_so_are_all_gradients(mixing: Mixing) -> None:
    k, m, i, o = 2, 5, 6, 4
    ranks = (3, 2, 1)
    x = random(k, m, i, seed=0).requires_grad_()
    base = nn.Linear(i, o, bias=False, dtype=torch.float64).requires_grad_(False)
    plain = [(random(k, r, i, seed=r), random(k, r, o, seed=10 + r)) for r in ranks]
    router = random(k, 3, i if mixing == "token" else 1, seed=5)
    wanted = [t.clone().requires_grad_() for pair in plain for t in pair]
    wanted_router, wanted_x = router.clone().requires_grad_(), x.detach().clone().requires_grad_()
    pairs = [(wanted[2 * e], wanted[2 * e + 1]) for e in range(3)]
    slow = token_by_token(wanted_x, base.weight, pairs, wanted_router)
    upstream = random(k, m, o, seed=9)
    slow.backward(upstream)

    buffers = [torch.zeros_like(t) for t in (*[t for pair in plain for t in pair], router)]
    experts = tuple(Factors(*plain[e], buffers[2 * e], buffers[2 * e + 1]) for e in range(3))
    layer = StackedLinear(base, 0.5, 0.0, torch.zeros((), requires_grad=True))
    layer.factors = MixedFactors(experts, mixing, router, buffers[-1])
    quick = layer(x)
    quick.backward(upstream)

    torch.testing.assert_close(quick, slow)
    torch.testing.assert_close(x.grad, wanted_x.grad)
    for found, expected in zip(buffers, [*wanted, wanted_router], strict=True):
        torch.testing.assert_close(found, expected.grad)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), slow)


def test_the_balance_is_that_of_the_formula_and_smallest_if_the_generalist_has_half() -> None:
    logits = random(1, 40, 3, seed=1)
    shares = torch.tensor([float((logits[0].argmax(dim=1) == e).double().mean()) for e in range(3)])
    proxies = logits[0].softmax(dim=1).mean(dim=0)
    wanted = [1 / (3 * 0.5), 2 / (3 * 0.5), 2 / (3 * 0.5)]
    expected = 9 * sum(float(shares[e] * proxies[e]) * wanted[e] for e in range(3)) / 3

    assert float(balance(logits)) == pytest.approx(expected)

    def of(first: int) -> float:
        """Of 100 tokens, so many choose expert 0 clearly, and the others each other expert in turn."""
        places = torch.tensor([0] * first + [1 + n % 2 for n in range(100 - first)])
        return float(balance(40.0 * nn.functional.one_hot(places, 3).double().unsqueeze(0)))

    assert min(range(0, 101, 10), key=of) == 50


def test_without_specialists_the_generalist_is_a_plain_adapter_to_the_bit(make: Callable[..., Learner]) -> None:
    alone, plain = make(AdapterSpec(rank=2, sharing="generalist")), make(AdapterSpec(rank=2))
    friends = [make(AdapterSpec(rank=2, sharing=s), FRIEND, corpus(seed=1)) for s in ("generalist", "both")]
    for learner, friend in zip((alone, plain), friends, strict=True):
        friend.train(3)
        learner.train(3)
        learner.collaborate({FRIEND: update(friend)})

    assert alone.personal().equals(plain.personal())
    assert alone.encode("bf16") == plain.encode("bf16")
    assert alone.network != plain.network


def test_routers_learn_from_the_trust_split_alone_and_experts_from_the_train_split_alone(
    make: Callable[..., Learner],
) -> None:
    def after(train: int, trust: int, router_steps: int = 1) -> Adapter:
        one, other = corpus(seed=train), corpus(seed=trust)
        text = Corpus(one.train, other.trust, one.guard, one.test, report=None, fingerprint="x")  # type: ignore[arg-type]
        training = structs.replace(TRAINING, router_every=3, router_steps=router_steps)
        learner = make(GENERALIST, text=text, training=training)
        learner.train(3)
        return learner.own()

    def differ(one: Adapter, other: Adapter) -> set[bool]:
        """Of which kinds some tensor differs: whether routers, whether experts."""
        pairs = one.tensors.items()
        return {expert_of(name) is None for name, t in pairs if not torch.equal(t, other.tensors[name])}

    usual = after(0, 0)

    assert differ(usual, after(0, 1)) == {True}  # the turn comes after the third step: experts have not felt it yet
    assert False in differ(usual, after(1, 0))
    untouched = after(0, 0, router_steps=0)
    assert differ(usual, untouched) == {True}
    start = make(GENERALIST).own()
    routers = [name for name in start.tensors if expert_of(name) is None]
    assert routers
    assert all(torch.equal(untouched.tensors[name], start.tensors[name]) for name in routers)


@several
def test_what_is_sent_is_one_plain_adapter_and_the_rest_changes_nothing_of_it(
    spec: AdapterSpec, make: Callable[..., Learner], tiny_base: Base
) -> None:
    learner, plain = make(spec), attach(tiny_base, AdapterSpec(rank=spec.rank))
    learner.train(3)
    told = update(learner).delta

    assert told.schema == plain.schema
    assert all(torch.equal(t, plain.initial.tensors[n]) for n, t in attach(tiny_base, spec).start.tensors.items())
    assert learner.own().tensors.keys() > told.tensors.keys()


@several
def test_a_merge_leaves_what_is_the_devices_own_as_it_was_to_the_bit(
    spec: AdapterSpec, make: Callable[..., Learner]
) -> None:
    friend, learner = make(spec, FRIEND, corpus(seed=1)), make(spec, guarded=False)
    friend.train(4)
    learner.train(2)
    mine = learner.own()
    learner.collaborate({FRIEND: update(friend)})
    merged = learner.personal()

    changed = {name for name, t in merged.tensors.items() if not torch.equal(t, mine.tensors[name])}
    assert changed
    if spec.sharing == "individual":
        assert {expert_of(name) for name in changed} == {1}
        theirs = of_expert(friend.own().tensors, 0)
        rest = of_expert(merged.tensors, 1)
        for name, tensor in rest.items():
            torch.testing.assert_close(tensor, theirs[name], atol=1e-6, rtol=0.0)
    else:
        assert {expert_of(name) for name in changed} == {0}


def test_the_rest_of_the_world_is_the_mean_of_the_others_and_does_not_train(make: Callable[..., Learner]) -> None:
    others = {peer: make(INDIVIDUAL, peer, corpus(seed=n)) for n, peer in ((1, FRIEND), (2, OTHER))}
    for other in others.values():
        other.train(3)
    learner = make(INDIVIDUAL, guarded=False)
    learner.collaborate({peer: update(other) for peer, other in others.items()})
    rest = of_expert(learner.personal().tensors, 1)
    learner.train(3)

    one, two = (of_expert(other.own().tensors, 0) for other in others.values())
    for name, tensor in rest.items():
        torch.testing.assert_close(tensor, (one[name] + two[name]) / 2, atol=1e-6, rtol=0.0)
        assert torch.equal(of_expert(learner.own().tensors, 1)[name], tensor)
    assert not torch.equal(learner.own().tensors[name], learner.personal().tensors[name])


def test_the_personal_adapter_of_two_levels_is_of_a_lower_rank_and_both_levels_take_a_step_each(
    make: Callable[..., Learner],
) -> None:
    learner = make(TWO_LEVEL)
    begun = learner.own()
    learner.train(1)

    moved = {expert_of(name) for name, t in learner.own().tensors.items() if not torch.equal(t, begun.tensors[name])}
    assert moved == {0, 1}
    assert {t.shape[0] for n, t in begun.tensors.items() if n.endswith("lora_A") and expert_of(n) == 1} == {2}


@several
def test_a_restart_goes_on_to_the_bit_and_another_number_of_specialists_is_told_in_words(
    spec: AdapterSpec, make: Callable[..., Learner], tmp_path: Path
) -> None:
    friend = make(spec, FRIEND, corpus(seed=1))
    friend.train(3)
    learner = make(spec, twin=True, guarded=False)
    learner.train(3)
    learner.collaborate({FRIEND: update(friend)})
    learner.train(2)
    learner.save(tmp_path / "state")
    again = make(spec, twin=True, guarded=False)
    again.restore(tmp_path / "state")
    for one in (learner, again):
        one.train(3)

    assert again.own().equals(learner.own())
    assert again.adapter("local").equals(learner.adapter("local"))
    assert not again.adapter("local").equals(again.own())
    if spec.sharing == "generalist":
        with pytest.raises(CheckpointError, match="specialists 2, and here it is 1") as raised:
            make(structs.replace(spec, specialists=1)).restore(tmp_path / "state")
        assert "--specialists 2" in raised.value.hint


@several
def test_what_is_said_comes_of_the_whole_mixture(spec: AdapterSpec, make: Callable[..., Learner]) -> None:
    learner = make(spec, training=structs.replace(TRAINING, lr=0.3))
    learner.train(4)
    said = learner.generate("the", "own", max_tokens=8, temperature=0.0, seed=0)
    stream = learner.respond("own", "the", Sampling(max_tokens=8, temperature=0.0, seed=0))
    ids = torch.tensor([[5, 9, 3, 7]])
    stack = AdapterStack(attach(learner._base, spec), speaks=True)
    whole = learner._speaker._with(learner.own())(input_ids=ids).logits
    base = stack.model(input_ids=ids).logits
    first = Adapter({n: t if expert_of(n) == 0 else torch.zeros_like(t) for n, t in learner.own().tensors.items()})

    assert "".join(piece.text for piece in stream if isinstance(piece, Piece)) == said
    assert not torch.allclose(whole, base)
    assert not torch.allclose(learner._speaker._with(first)(input_ids=ids).logits, whole)


def test_networks_that_share_otherwise_do_not_mix_and_the_number_of_specialists_is_nobodys_business(
    tiny_base: Base,
) -> None:
    def digest(spec: AdapterSpec) -> str:
        adapted = attach(tiny_base, spec)
        return network_digest(tiny_base, spec, adapted.targets, adapted.start, "g")

    both = AdapterSpec(rank=2)
    digests = {digest(structs.replace(both, sharing=s)) for s in ("both", "generalist", "individual", "two-level")}
    targets = attach(tiny_base, both).targets

    assert len(digests) == 4
    assert digest(GENERALIST) == digest(structs.replace(GENERALIST, specialists=0, mixing="layer"))
    assert network_traits(tiny_base, GENERALIST, targets)["adapter"] in other_sharings(both, targets)


def test_specialists_of_another_sharing_and_a_generalist_without_mlp_layers_are_refused_in_words(
    tiny_base: Base,
) -> None:
    with pytest.raises(OptionError, match="specialists go with sharing generalist"):
        AdapterSpec(specialists=1)
    with pytest.raises(OptionError, match="the targets hold none"):
        attach(tiny_base, structs.replace(GENERALIST, targets=("q_proj",)))
    with pytest.raises(OptionError, match="an update does not hold all of a layer"):
        LearnerOptions(spec=GENERALIST, gate_steps=1)


def test_a_simulation_deals_numbers_of_specialists_in_turn() -> None:
    choice = AdapterChoice(rank=2, sharing="generalist", own_specialists=(0, 1, 2))
    peers = tuple(PeerText(name=name, data=(name,)) for name in "abcd")
    config = SimulationConfig(peers=peers, adapter=choice)

    assert [config.spec(place).experts for place in range(4)] == [1, 2, 3, 1]
    with pytest.raises(OptionError, match="specialists go with sharing generalist"):
        AdapterChoice(own_specialists=(1,))
    with pytest.raises(OptionError, match="one start for all"):
        AdapterChoice(sharing="individual", shared_start=False)


@pytest.mark.parametrize(
    ("spec", "trust"),
    [
        (GENERALIST, "prediction-similarity"),
        (GENERALIST, "mixture"),
        (TWO_LEVEL, "first-order"),
        (INDIVIDUAL, "layer-similarity"),
    ],
)
def test_trust_schemes_judge_neighbours_in_the_place_of_what_they_share(
    spec: AdapterSpec, trust: str, make: Callable[..., Learner]
) -> None:
    friend, learner = make(spec, FRIEND), make(spec, trust=trust)
    friend.train(3)
    learner.train(2)

    ended = learner.collaborate({FRIEND: update(friend)})

    assert isinstance(ended.row, TrustRow)
    assert math.isfinite(ended.figures.guard_personal)
