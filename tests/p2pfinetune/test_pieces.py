"""Gates and pieces: what is trained, what travels, and what a newcomer makes of it, beside slow obvious versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from torch import Tensor

from p2pfinetune.codec import CODECS
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.options import AdapterSpec, LearnerOptions
from p2pfinetune.options.pieces import AssemblyOptions, GateOptions, assembly_options
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.pieces import (
    LARGEST_GATE,
    Assembly,
    History,
    Sharer,
    assemble,
    chosen,
    encode_gates,
    history_of,
    inspect_gates,
    refined,
)
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.training.gates import Gates, GateState, GateTrainer, closed_gates, gate_schema, gated
from tests.p2pfinetune.test_learner import OPTIONS, corpus, language

ANNE, BEN, CARO = PeerId("anne"), PeerId("ben"), PeerId("caro")


@pytest.fixture(scope="module")
def adapted(tiny_base: Base) -> AdaptedModel:
    return attach(tiny_base, AdapterSpec(rank=2))


def sharer(adapted: AdaptedModel, seed: int, size: float = 0.3) -> Sharer:
    """Somebody whose adapter and gates are dice."""
    dice = torch.Generator().manual_seed(seed)
    moved = {n: t + size * torch.randn(t.shape, generator=dice) for n, t in adapted.initial.tensors.items()}
    gates = {n: torch.randn(shape[1], generator=dice) for n, shape in gate_schema(adapted).items()}
    return Sharer(Adapter(moved), Gates(gates))


@pytest.fixture(scope="module")
def sharers(adapted: AdaptedModel) -> dict[PeerId, Sharer]:
    return {peer: sharer(adapted, seed) for seed, peer in enumerate((ANNE, BEN, CARO))}


@pytest.fixture(scope="module")
def history() -> History:
    return history_of(language(1, 5, 6), documents=2, context=16, vocabulary=320, max_tokens=40)


def slowly(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History, top_k: int, temperature: float
) -> Adapter:
    """The paper's definition, word by word: for each layer the whole model anew, each token by itself."""
    made = dict(adapted.initial.tensors)
    order: list[str] = []
    for path in adapted.targets:
        adapted.model.get_submodule(path).register_forward_pre_hook(lambda *_, path=path: order.append(path))
    with torch.no_grad():
        adapted.model(input_ids=history.inputs_bt)
    for module in adapted.model.modules():
        module._forward_pre_hooks.clear()
    for path in order:
        write(adapted, Adapter(made))
        seen: list[Tensor] = []
        hook = adapted.model.get_submodule(path).register_forward_pre_hook(lambda _, x, seen=seen: seen.append(x[0]))
        with torch.no_grad():
            adapted.model(input_ids=history.inputs_bt)
        hook.remove()
        scores: dict[PeerId, float] = {}
        for peer, one in sharers.items():
            gate, found = one.gates.of(path).tolist(), []
            for b in range(history.inputs_bt.shape[0]):
                for t in range(history.inputs_bt.shape[1]):
                    if history.learnt_bt[b, t]:
                        x = seen[0][b, t].tolist()
                        found.append(sum(i * j for i, j in zip(normed(x), normed(gate), strict=True)))
            scores[peer] = sum(found) / len(found) / math.sqrt(len(gate))
        best = sorted(scores, key=lambda peer: -scores[peer])[:top_k]
        total = sum(math.exp(scores[peer] / temperature) for peer in best)
        for name in (f"{path}.lora_A", f"{path}.lora_B"):
            made[name] = sum(
                (math.exp(scores[p] / temperature) / total * sharers[p].adapter.tensors[name] for p in best),
                torch.zeros(()),
            )
    return Adapter(made)


def normed(numbers: list[float]) -> list[float]:
    """Layer norm without weights."""
    mean = sum(numbers) / len(numbers)
    variance = sum((n - mean) ** 2 for n in numbers) / len(numbers)
    return [(n - mean) / math.sqrt(variance + 1e-5) for n in numbers]


@pytest.mark.numeric
@pytest.mark.parametrize(("top_k", "temperature"), [(1, 1.0), (2, 0.1), (9, 1.0)])
def test_one_pass_chooses_what_the_definition_does(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History, top_k: int, temperature: float
) -> None:
    found = assemble(adapted, sharers, history, AssemblyOptions(top_k=top_k, temperature=temperature))

    slow = slowly(adapted, sharers, history, top_k, temperature)
    assert found.adapter.schema == slow.schema
    for name, tensor in slow.tensors.items():
        torch.testing.assert_close(found.adapter.tensors[name], tensor, rtol=1e-4, atol=1e-5)
    assert len({*found.weights}) == len(adapted.targets)
    assert sum(found.row(PeerId("me")).weights.values()) == pytest.approx(1.0)


def test_what_was_chosen_below_is_at_work_above(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History
) -> None:
    """Without it the scores of a layer above the first would not know of the pieces."""
    found = assemble(adapted, sharers, history, AssemblyOptions())
    inert = {peer: Sharer(adapted.initial, one.gates) for peer, one in sharers.items()}

    without = assemble(adapted, inert, history, AssemblyOptions())

    paths = list(found.scores)
    assert found.scores[paths[0]] == without.scores[paths[0]]
    assert found.scores[paths[-1]] != without.scores[paths[-1]]


def test_only_tokens_that_are_learnt_have_a_say(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History
) -> None:
    longer = History(
        torch.cat([history.inputs_bt, history.inputs_bt.flip(0)]),
        torch.cat([history.learnt_bt, torch.zeros_like(history.learnt_bt)]),
    )

    found, same = (assemble(adapted, sharers, text, AssemblyOptions()) for text in (history, longer))

    assert found.weights == same.weights
    for path, scores in found.scores.items():
        assert same.scores[path] == pytest.approx(scores, rel=1e-3, abs=1e-5)


def test_the_history_is_the_last_documents_and_no_more_tokens_than_allowed() -> None:
    split = language(1, 5, 6)

    last = history_of(split, documents=2, context=16, vocabulary=320, max_tokens=4096)
    little = history_of(split, documents=6, context=16, vocabulary=320, max_tokens=50)

    assert int(last.learnt_bt.sum()) == 2 * 39
    assert {*last.inputs_bt[last.learnt_bt].tolist()} <= {*split.tokens[split.starts[4] :].tolist()}
    assert int(little.learnt_bt.sum()) <= 50


def test_who_has_no_gate_that_means_anything_is_not_chosen_and_nobody_is_no_assembly(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History
) -> None:
    lost = Gates({name: torch.full_like(gate, math.inf) for name, gate in sharers[ANNE].gates.tensors.items()})
    mad = {ANNE: Sharer(sharers[ANNE].adapter, lost)}

    alone = assemble(adapted, mad, history, AssemblyOptions())
    beside = assemble(adapted, {**mad, BEN: sharers[BEN]}, history, AssemblyOptions(top_k=2))

    assert alone.adapter.equals(adapted.initial)
    assert alone.row(CARO).weights == {CARO: 1.0}
    assert beside.adapter.equals(sharers[BEN].adapter)
    with pytest.raises(ValueError, match="somebody"):
        assemble(adapted, {}, history, AssemblyOptions())


@settings(max_examples=30)
@given(
    scores=st.dictionaries(st.sampled_from("abcdef").map(PeerId), st.floats(allow_nan=True), max_size=6),
    top_k=st.integers(1, 7),
    temperature=st.floats(1e-6, 1e6),
)
def test_weights_of_pieces_are_a_distribution_over_the_best(
    scores: dict[PeerId, float], top_k: int, temperature: float
) -> None:
    weights = chosen(scores, top_k, temperature)

    finite = {peer for peer, value in scores.items() if math.isfinite(value)}
    assert len(weights) == min(top_k, len(finite))
    assert {*weights} <= finite
    assert not weights or sum(weights.values()) == pytest.approx(1.0)
    assert all(scores[peer] <= min(scores[w] for w in weights) for peer in finite - {*weights})


def test_products_may_be_summed_in_place_of_factors(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History
) -> None:
    two = {peer: Sharer(sharers[peer].adapter, sharers[ANNE].gates) for peer in (ANNE, BEN)}

    found = assemble(adapted, two, history, AssemblyOptions(top_k=2, mix="products"))

    factors = assemble(adapted, two, history, AssemblyOptions(top_k=2))
    wanted = {p: 0.5 * sum(o.adapter.tensors[f"{p}.lora_B"] @ o.adapter.tensors[f"{p}.lora_A"] for o in two.values())
              for p in adapted.targets}  # fmt: skip
    missed = {
        kind: sum(float((b @ a - wanted[path]).norm()) for path, a, b in made.adapter.pairs())
        for kind, made in (("products", found), ("factors", factors))
    }
    assert missed["products"] < missed["factors"]


def test_chosen_by_loss_is_never_above_any_of_the_whole_ones(
    adapted: AdaptedModel, sharers: Mapping[PeerId, Sharer], history: History
) -> None:
    asked: list[int] = []
    goal = sharer(adapted, 77).adapter

    def losses(adapters: Any) -> list[float]:
        asked.append(len(adapters))
        return [math.nan if a is None else a.minus(goal).norm() for a in adapters]

    begun = assemble(adapted, sharers, history, AssemblyOptions())

    found = refined(begun, sharers, adapted.initial, losses)

    whole = [begun.adapter, adapted.initial, *(one.adapter for one in sharers.values())]
    assert losses([found.adapter])[0] <= min(losses(whole))
    assert sum(asked[:-2]) == 2 + 1 + len(sharers) + len(sharers) * len(adapted.targets)
    assert isinstance(found, Assembly)


def test_options_of_an_assembly_are_told_by_name() -> None:
    assert assembly_options({"top_k": 3}) == AssemblyOptions(top_k=3)
    for wrong in ({"topk": 3}, {"top_k": 0}, {"mix": "sum"}):
        with pytest.raises(OptionError, match=r"assembling pieces") as caught:
            assembly_options(wrong)
        assert "top_k" in caught.value.hint


# --- gates -------------------------------------------------------------------------------------------------------


def gates_of(adapted: AdaptedModel, gate_lr: float = 1e-2) -> GateTrainer:
    return GateTrainer(adapted, language(1, 5, 6), OPTIONS.training, GateOptions(gate_steps=3, gate_lr=gate_lr))


def test_a_closed_gate_lets_half_of_each_input_through(adapted: AdaptedModel, history: History) -> None:
    layer: Any = adapted.model.get_submodule(adapted.targets[0])
    write(adapted, sharer(adapted, 3).adapter)
    x = torch.randn((2, 3, layer.in_features))

    with torch.no_grad(), gated(adapted, closed_gates(adapted).tensors):
        half = layer(x)
    with torch.no_grad():
        whole, base = layer(x), layer.get_base_layer()(x)

    torch.testing.assert_close(half - base, 0.5 * (whole - base), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_gate_is_that_of_the_formula(adapted: AdaptedModel) -> None:
    """y = B A (x sigmoid(<x, g>)) alpha / r, by hand on one layer."""
    path = adapted.targets[0]
    layer: Any = adapted.model.get_submodule(path)
    one = sharer(adapted, 4)
    write(adapted, one.adapter)
    x, g = torch.randn(5, layer.in_features), torch.randn(layer.in_features, requires_grad=True)
    live = {name: g if name == f"{path}.gate" else t for name, t in one.gates.tensors.items()}
    a, b = (one.adapter.tensors[f"{path}.lora_{kind}"] for kind in "AB")

    with gated(adapted, live):
        (by_hooks,) = torch.autograd.grad(layer(x).square().sum(), g)
    y = layer.get_base_layer()(x) + adapted.spec.scale * (x * torch.sigmoid(x @ g).unsqueeze(1)) @ a.T @ b.T
    (by_hand,) = torch.autograd.grad(y.square().sum(), g)

    torch.testing.assert_close(by_hooks, by_hand, rtol=1e-4, atol=1e-5)


def test_gates_are_trained_and_nothing_else_is(adapted: AdaptedModel) -> None:
    own = sharer(adapted, 5).adapter
    trainer = gates_of(adapted)
    before = {name: p.detach().clone() for name, p in adapted.model.named_parameters() if "lora" not in name}

    trainer.run(own, 2)

    assert all(bool(gate.abs().max() > 0) for gate in trainer.state.gates.tensors.values())
    assert all(torch.equal(p, adapted.parameters[name].detach()) for name, p in own.tensors.items())
    assert all(torch.equal(t, dict(adapted.model.named_parameters())[n]) for n, t in before.items())
    assert not any(layer._forward_pre_hooks for layer in adapted.model.modules())
    assert all(p.grad is None for p in adapted.parameters.values())


def test_gates_go_on_from_a_saved_state_to_the_bit(adapted: AdaptedModel) -> None:
    own = sharer(adapted, 5).adapter
    straight, first, second = (gates_of(adapted) for _ in range(3))
    straight.run(own, 4)

    first.run(own, 1)
    second.load_state(first.state)
    second.run(own, 3)

    assert straight.state.steps == second.state.steps == 4
    for name, gate in straight.state.gates.tensors.items():
        assert torch.equal(gate, second.state.gates.tensors[name])
    with pytest.raises(CheckpointError, match="another model"):
        second.load_state(GateState(Gates({"x.gate": torch.zeros(3)})))


@pytest.mark.parametrize("codec", CODECS.names())
def test_gates_are_given_away_as_bytes_that_every_codec_could_carry(adapted: AdaptedModel, codec: str) -> None:
    gates, schema = sharer(adapted, 6).gates, gate_schema(adapted)

    blob = encode_gates(gates)
    found = inspect_gates(blob, schema)
    made = CODECS.make(codec)
    carried = made.decode(made.encode({n: g.unsqueeze(0) for n, g in gates.tensors.items()}), schema)

    assert isinstance(found, Gates)
    assert blob == encode_gates(gates)
    for name, gate in gates.tensors.items():
        torch.testing.assert_close(found.tensors[name], gate, rtol=2**-8, atol=0)
    assert not isinstance(carried, Refusal)
    assert {n: tuple(t.shape) for n, t in carried.items()} == schema


def test_gates_of_strangers_are_inspected_and_refused_in_a_counted_word(adapted: AdaptedModel) -> None:
    gates, schema = sharer(adapted, 6).gates, gate_schema(adapted)
    name = next(iter(gates.tensors))
    bf16 = CODECS.make("bf16")

    def blob(**changes: Tensor) -> bytes:
        tensors = {n: g.unsqueeze(0) for n, g in gates.tensors.items()}
        return bf16.encode({**tensors, **({name: changes["gate"]} if changes else {})})

    refused = {
        "malformed": b"\x02" + bytes(7) + b"no",
        "oversize": blob() + bytes(10**6),
        "shape": blob(gate=torch.zeros((1, 3))),
        "norm": blob(gate=torch.full(schema[name], 2 * LARGEST_GATE)),
        "schema": bf16.encode({"another.gate": torch.zeros((1, 3))}),
        "not-finite": blob()[:-2] + b"\xff\xff",
    }

    for reason, said in refused.items():
        found = inspect_gates(said, schema)
        assert isinstance(found, Refusal), reason
        assert found.reason == reason


# --- learners ----------------------------------------------------------------------------------------------------


SHARING = structs.replace(OPTIONS, gate_steps=2, spec=AdapterSpec(rank=2))


@pytest.fixture(scope="module")
def make(tiny_base: Base, adapted: AdaptedModel) -> Callable[..., Learner]:
    def learner(name: str, kind: int, options: LearnerOptions = SHARING) -> Learner:
        return Learner(tiny_base, corpus(kind, seed=len(name)), options, me=PeerId(name), group="test", adapted=adapted)

    return learner


def taught(learner: Learner, steps: int = 15) -> tuple[LoraUpdate, Gates]:
    learner.train(steps)
    learner.pieces.train(learner.own())
    update, blob = learner.admit(learner.encode("fp32"), "fp32"), learner.pieces.encode()
    assert isinstance(update, LoraUpdate)
    assert blob is not None
    gates = learner.pieces.admit(blob)
    assert isinstance(gates, Gates)
    return update, gates


@pytest.fixture(scope="module")
def given_away(make: Callable[..., Learner]) -> tuple[dict[PeerId, LoraUpdate], dict[PeerId, Gates]]:
    """Of three, two of whom have the newcomer's language."""
    told = {PeerId(name): taught(make(name, kind)) for name, kind in (("a", 0), ("bb", 0), ("ccc", 3))}
    return {peer: update for peer, (update, _) in told.items()}, {peer: gates for peer, (_, gates) in told.items()}


def test_a_newcomer_is_better_than_the_base_before_it_has_trained_and_its_twin_is_not(
    make: Callable[..., Learner], given_away: Any, tmp_path: Path
) -> None:
    newcomer = make("newcomer", 0, structs.replace(SHARING, twin=True))
    base = newcomer.best_guard

    done = newcomer.assemble(*given_away)

    assert done.accepted
    assert done.figures.assembly is not None
    assert done.figures.assembly.peers == 3
    assert done.figures.guard_personal == done.best_guard < base == done.figures.guard_base
    assert not newcomer.personal().equals(newcomer.own())
    assert newcomer.adapter("local").equals(newcomer.adapter("base"))
    assert newcomer.steps == 0
    newcomer.save(tmp_path / "saved")
    other = make("newcomer", 0, structs.replace(SHARING, twin=True))
    other.restore(tmp_path / "saved")
    for one in (newcomer, other):
        one.train(2)
    assert other.own().equals(newcomer.own())


def test_what_measures_worse_than_the_start_is_not_begun_from(make: Callable[..., Learner], given_away: Any) -> None:
    updates, gates = given_away
    bad = {peer: LoraUpdate(Adapter({n: 40 * t for n, t in u.delta.tensors.items()})) for peer, u in updates.items()}
    newcomer = make("newcomer", 0)
    base = newcomer.best_guard

    done = newcomer.assemble(bad, gates)

    assert (done.accepted, done.reason, done.best_guard) == (False, "worse-than-own", base)
    assert newcomer.own().equals(newcomer.adapter("base"))


def test_who_gave_no_gates_is_no_candidate_and_a_half_of_a_layer_is_no_piece(
    make: Callable[..., Learner], given_away: Any, tiny_base: Base
) -> None:
    updates, gates = given_away
    first = PeerId("a")
    newcomer = make("newcomer", 0)
    half = structs.replace(SHARING, spec=AdapterSpec(rank=2, sharing="a"))
    other = Learner(tiny_base, corpus(), half, me=PeerId("x"), group="test")

    done = newcomer.assemble(updates, {first: gates[first]})

    assert {peer for peer, weight in done.row.weights.items() if weight} == {first}
    with pytest.raises(OptionError, match="half of one"):
        other.assemble({}, {})


def test_gates_are_saved_with_the_learner_and_are_no_part_of_what_is_published(
    make: Callable[..., Learner], tmp_path: Path
) -> None:
    learner, without = make("a", 0), make("a", 0, structs.replace(SHARING, gate_steps=0))
    for one in (learner, without):
        one.train(2)
    learner.pieces.train(learner.own())
    learner.save(tmp_path / "saved")

    other = make("a", 0)
    other.restore(tmp_path / "saved")

    assert other.pieces.encode() == learner.pieces.encode()
    assert learner.encode("bf16") == without.encode("bf16")
    assert (without.pieces.train(without.own()), without.pieces.encode()) == (0, None)
    learner.pieces.train(learner.own())
    other.pieces.train(other.own())
    assert other.pieces.encode() == learner.pieces.encode()
    without.restore(tmp_path / "saved")
    assert without.pieces.encode() is None
