"""Networks whose devices train, and tell, a portion of the adapter at a time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from p2pfinetune.codec import CODECS
from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, FactorSet, attach, initial_adapter, read, write
from p2pfinetune.model.base import Base
from p2pfinetune.model.portion import Portion
from p2pfinetune.names import PeerId, Refusal, Sharing, TrustRow
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.collaborate import merged_by, rule_for
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.told_portion import portion_bytes, read_portion, write_portion
from p2pfinetune.round.update import LoraUpdate, encode_update, inspect, largest_blob
from p2pfinetune.training.portion_trainer import PortionTrainer, Sketching, trainer_for
from p2pfinetune.training.trainers.adamw import AdamW
from p2pfinetune.training.trainers.sgd import Sgd
from tests.p2pfinetune.test_learner import corpus

ME = PeerId("me")
RANK = 4
START = initial_adapter({"m.q": (6, 10), "m.v": (5, 7)}, AdapterSpec(rank=RANK))
SCHEMA = START.schema
EXACT = CODECS.make("fp32")
portions_st = st.integers(1, RANK).flatmap(
    lambda k: st.builds(
        lambda q, v: Portion(components={"m.q": tuple(sorted(q)), "m.v": tuple(sorted(v))}),
        *[st.lists(st.integers(0, RANK - 1), min_size=k, max_size=k, unique=True)] * 2,
    )
)


def moved(seed: int) -> Adapter:
    dice = torch.Generator().manual_seed(seed)
    return Adapter({n: t + 0.1 * torch.randn(t.shape, generator=dice) for n, t in START.tensors.items()})


def spec(sharing: Sharing, own_rank: int = 0) -> AdapterSpec:
    return AdapterSpec(rank=RANK, alpha=8, sharing=sharing, own_rank=own_rank)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_sketch_is_right_in_expectation_over_all_sets_of_components(count: int) -> None:
    whole, every = moved(1), [*itertools.combinations(range(RANK), count)]

    for path, a, b in whole.pairs():
        sketches = []
        for chosen in every:
            portion = Portion(components={"m.q": chosen, "m.v": chosen}).taken(whole.tensors)
            sketches.append(RANK / count * portion[f"{path}.lora_B"] @ portion[f"{path}.lora_A"])
        torch.testing.assert_close(torch.stack(sketches).mean(dim=0), b @ a)


def test_a_device_draws_every_component_equally_often_and_another_set_for_every_target_and_turn(
    tiny_base: Base,
) -> None:
    turns = Sketching(tiny_base, attach(tiny_base, spec("sketch", 1)), 7)
    drawn = [turns.portion(turn).components for turn in range(400)]

    counts = {c: sum(portion[path] == (c,) for portion in drawn for path in portion) for c in range(RANK)}
    total = sum(counts.values())

    assert all(abs(count / total - 1 / RANK) < 0.02 for count in counts.values())
    assert len({tuple(portion.values()) for portion in drawn[:20]}) == 20
    assert turns.portion(3) == turns.portion(3)


@given(portion=portions_st, seed=st.integers(0, 9))
def test_what_is_taken_and_put_back_changes_nothing_and_another_part_changes_that_alone(
    portion: Portion, seed: int
) -> None:
    mine, theirs = moved(seed), moved(seed + 1)

    assert Adapter(portion.put(mine.tensors, portion.taken(mine.tensors))).equals(mine)
    mixed = portion.put(mine.tensors, portion.taken(theirs.tensors))
    for name, tensor in mixed.items():
        told = set(portion.components[name.rpartition(".")[0]])
        for c in range(RANK):
            at = (c,) if name.endswith(".lora_A") else (slice(None), c)
            assert torch.equal(tensor[at], (theirs if c in told else mine).tensors[name][at])


@given(portion=st.one_of(portions_st, st.builds(Portion, st.sampled_from(["a", "b"]))))
def test_an_update_of_a_part_says_which_and_takes_as_many_bytes_as_it_tells(portion: Portion) -> None:
    own, sharing = moved(1), ("alternate" if portion.factor else "sketch")
    blob = encode_update(own, START, EXACT, None, spec(sharing), portion)  # type: ignore[arg-type]

    found = inspect(blob, "fp32", SCHEMA, max_norm=99.0, sharing=sharing)  # type: ignore[arg-type]

    assert isinstance(found, LoraUpdate)
    assert found.portion == portion
    at_me = found.adapter(START, moved(2))
    wanted = portion.put(moved(2).tensors, portion.taken(own.tensors))
    assert all(torch.allclose(t, wanted[n], atol=1e-6) for n, t in at_me.tensors.items())
    told = sum(shape[0] * shape[1] for shape in portion.schema(SCHEMA).values())
    assert len(blob) <= 4 * told + portion_bytes(sharing, SCHEMA) + 400  # type: ignore[arg-type]
    assert len(blob) <= largest_blob(EXACT, SCHEMA, sharing)  # type: ignore[arg-type]


WHOLE = write_portion(Portion(components={"m.q": (0, 2), "m.v": (1, 3)}), SCHEMA)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (b"", "malformed"),
        (WHOLE[:-1], "malformed"),
        (b"\0\0" + WHOLE[2:], "schema"),  # no component
        (b"\xff\xff" + WHOLE[2:], "schema"),  # more than there are
        (b"\x01\0" + WHOLE[2:], "schema"),  # fewer than are told
        (WHOLE[:2] + b"\x05\x12", "schema"),  # one beyond the rank
        (WHOLE[:2] + b"\x05\x00", "schema"),  # of one target, none
    ],
)
def test_a_set_of_components_that_cannot_be_is_refused(told: bytes, reason: str) -> None:
    found = read_portion(told, "sketch", SCHEMA)

    assert isinstance(found, Refusal)
    assert found.reason == reason
    assert isinstance(inspect(told, "fp32", SCHEMA, max_norm=9.0, sharing="sketch"), Refusal)
    assert isinstance(read_portion(b"C", "alternate", SCHEMA), Refusal)
    assert isinstance(read_portion(WHOLE, "sketch", SCHEMA), Portion)


@given(st.one_of(st.binary(max_size=6), st.builds(bytes, st.lists(st.integers(0, 15), min_size=4, max_size=4))))
def test_whatever_bytes_are_read_as_a_portion_are_the_only_ones_that_say_it(told: bytes) -> None:
    for sharing in ("sketch", "alternate"):
        found = read_portion(told, sharing, SCHEMA)  # type: ignore[arg-type]
        if not isinstance(found, Refusal):
            size = portion_bytes(sharing, SCHEMA)  # type: ignore[arg-type]
            assert write_portion(found, SCHEMA) == told[:size]
        assert isinstance(inspect(told, "fp32", SCHEMA, max_norm=9.0, sharing=sharing), Refusal)  # type: ignore[arg-type]


def test_fewer_or_other_tensors_than_the_portion_says_are_refused() -> None:
    two = encode_update(
        moved(1), START, EXACT, None, spec("sketch", 2), Portion(components={"m.q": (0, 1), "m.v": (0, 1)})
    )
    factor = encode_update(moved(1), START, EXACT, None, spec("alternate"), Portion("a"))

    as_one = inspect(b"\x01\0\x01\x01" + two[4:], "fp32", SCHEMA, max_norm=9.0, sharing="sketch")
    as_other = inspect(b"B" + factor[1:], "fp32", SCHEMA, max_norm=9.0, sharing="alternate")

    other = inspect(factor, "fp32", SCHEMA, max_norm=9.0, sharing="alternate", base=factor)
    assert isinstance(other, Refusal)
    assert other.reason == "base"
    assert isinstance(as_one, Refusal)
    assert isinstance(as_other, Refusal)
    assert {as_one.reason, as_other.reason} <= {"schema", "shape", "oversize"}


@given(portions=st.lists(portions_st, min_size=1, max_size=3), order=st.randoms(use_true_random=False))
def test_each_component_is_merged_by_those_who_told_it_in_any_order(portions: list[Portion], order: Any) -> None:
    own, peers = moved(9), [PeerId(f"peer{i}") for i in range(len(portions))]
    weights = {peer: 0.2 + 0.05 * i for i, peer in enumerate(peers)}
    row = TrustRow({**weights, ME: 1.0 - sum(weights.values())})
    others = {
        peer: LoraUpdate(_delta(moved(i), portion), portion).adapter(START, own)
        for i, (peer, portion) in enumerate(zip(peers, portions, strict=True))
    }
    shuffled = list(peers)
    order.shuffle(shuffled)
    rule = rule_for("factor-mean", {}, spec("sketch"))

    merged = merged_by(row, ME, own, others, rule, spec("sketch"))

    again = merged_by(row, ME, own, {peer: others[peer] for peer in shuffled}, rule, spec("sketch"))
    assert merged.equals(again)
    for name, tensor in merged.tensors.items():  # the slow obvious version
        wanted = own.tensors[name].double()
        for i, (peer, portion) in enumerate(zip(peers, portions, strict=True)):
            mask = torch.zeros(RANK, dtype=torch.float64)
            mask[list(portion.components[name.rpartition(".")[0]])] = 1.0
            way = (moved(i).tensors[name] - own.tensors[name]).double()
            wanted = wanted + weights[peer] * (mask[:, None] * way if name.endswith(".lora_A") else way * mask)
        torch.testing.assert_close(tensor.double(), wanted, atol=1e-6, rtol=1e-5)


def _delta(adapter: Adapter, portion: Portion) -> Any:
    return FactorSet(portion.taken(adapter.minus(START).tensors))


def training(**changes: Any) -> TrainingOptions:
    return TrainingOptions(**{"batch_size": 2, "context": 16, "lr": 5e-3, "seed": 3, "clip": 0.0, **changes})


def by_hand(
    adapted: AdaptedModel, whole: Adapter, portion: Portion, inputs_bt: Tensor, targets_bt: Tensor
) -> dict[str, Tensor]:
    """Gradients of the loss of W0 + (alpha / r) B S A, by autograd through the whole adapter and a diagonal S."""
    rank, leaves = adapted.spec.rank, {n: t.clone().requires_grad_() for n, t in whole.tensors.items()}

    def sketched(name: str) -> Tensor:
        if name.endswith(".lora_A"):
            return leaves[name]
        chosen = portion.components[name.rpartition(".")[0]]
        mask = torch.zeros(rank)
        mask[list(chosen)] = rank / len(chosen)
        return leaves[name] @ torch.diag(mask)

    live = {name: sketched(name) for name in leaves}
    names = {f"{path}.lora_{f}.default.weight": f"{path}.lora_{f}" for path in adapted.targets for f in "AB"}
    swapped = {long: live[short] for long, short in names.items()}
    logits = torch.func.functional_call(adapted.model, swapped, (), {"input_ids": inputs_bt}).logits
    loss = cross_entropy(logits.flatten(0, 1), targets_bt.flatten())
    grads = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
    return {name: g for name, g in zip(leaves, grads, strict=True) if g is not None}


@pytest.mark.numeric
def test_a_step_of_a_sketch_is_a_step_of_b_s_a_by_autograd(tiny_base: Base) -> None:
    adapted = attach(tiny_base, spec("sketch", 2))
    trainer = trainer_for(Sgd(momentum=0.0, scale=1.0), tiny_base, adapted, corpus, training(lr=0.1), None, "me")
    assert isinstance(trainer, PortionTrainer)
    dice = torch.Generator().manual_seed(5)
    before = Adapter({n: t + 0.05 * torch.randn(t.shape, generator=dice) for n, t in adapted.initial.tensors.items()})
    trainer.set_adapter(before)
    batched = trainer.batched
    assert batched is not None
    batch, rate = batched.upcoming()

    trainer.run(1)

    gradients = by_hand(adapted, before, trainer.portion, batch.inputs_bt, batch.targets_bt)
    for name, tensor in trainer.adapter.tensors.items():
        step = rate * (gradients[name] + 1e-3 * before.tensors[name])
        torch.testing.assert_close(
            tensor[_in(trainer.portion, name)], (before.tensors[name] - step)[_in(trainer.portion, name)]
        )
        assert torch.equal(tensor[_out(trainer.portion, name)], before.tensors[name][_out(trainer.portion, name)])


def _in(portion: Portion, name: str) -> Any:
    chosen = list(portion.components[name.rpartition(".")[0]])
    return (chosen,) if name.endswith(".lora_A") else (slice(None), chosen)


def _out(portion: Portion, name: str) -> Any:
    others = [c for c in range(RANK) if c not in portion.components[name.rpartition(".")[0]]]
    return (others,) if name.endswith(".lora_A") else (slice(None), others)


def learner(base: Base, seed: int, sharing: Sharing, own_rank: int = 0, **changes: Any) -> Learner:
    options = LearnerOptions(
        spec=spec(sharing, own_rank), training=training(seed=seed), tolerance=5.0, guarded=False, trust="uniform",
        **changes,
    )  # fmt: skip
    return Learner(base, corpus(seed), options, me=PeerId(f"peer {seed}"), group="test")


def heard(learner: Learner, other: Learner) -> LoraUpdate:
    found = learner.admit(other.encode("fp32"), "fp32")
    assert isinstance(found, LoraUpdate)
    return found


def changed(before: Adapter, after: Adapter) -> set[str]:
    return {name[-1] for name, tensor in after.tensors.items() if not torch.equal(tensor, before.tensors[name])}


def test_a_peer_that_alternates_trains_and_tells_b_then_a_and_hears_who_is_out_of_step(tiny_base: Base) -> None:
    one, two = (learner(tiny_base, seed, "alternate") for seed in (0, 1))
    start = one.own()
    for peer in (one, two):
        peer.train(2)
    assert changed(start, one.own()) == {"B"}
    assert heard(two, one).portion == Portion("b")
    own, theirs = one.own(), heard(one, two)
    done = one.collaborate({two.me: theirs})
    assert done.accepted
    b = {n: t for n, t in one.personal().tensors.items() if n.endswith("B")}
    torch.testing.assert_close(b, {n: (own.tensors[n] + two.own().tensors[n]) / 2 for n in b})
    assert changed(own, one.personal()) == {"B"}

    before = one.personal()
    one.train(2)  # a turn further than two
    assert changed(before, one.own()) == {"A"}
    assert heard(two, one).portion == Portion("a")
    own = one.own()
    one.collaborate({two.me: heard(one, two)})
    assert changed(own, one.personal()) == {"B"}  # what two told


@pytest.mark.parametrize("sharing", ["alternate", "sketch"])
def test_training_in_turns_goes_on_to_the_bit_after_a_restart_twin_and_all(
    tiny_base: Base, tmp_path: Path, sharing: Sharing
) -> None:
    def made() -> Learner:
        return learner(tiny_base, 0, sharing, 2 if sharing == "sketch" else 0, twin=True)

    one, other = made(), learner(tiny_base, 1, sharing)
    for _ in range(2):
        one.train(2)
        other.train(2)
        one.collaborate({other.me: heard(one, other)})
        other.collaborate({})
    one.train(1)  # in the middle of a round
    one.save(tmp_path / "state")
    again = made()
    again.restore(tmp_path / "state")

    for peer in (one, again):
        peer.train(1)
    assert one.encode("fp32") == again.encode("fp32")
    for peer in (one, again):
        peer.collaborate({})
        peer.train(2)
    assert again.own().equals(one.own())
    assert again.adapter("local").equals(one.adapter("local"))
    assert not one.adapter("local").equals(one.own())


def test_three_strengths_of_device_train_send_and_hear_what_they_can(tiny_base: Base, tmp_path: Path) -> None:
    peers = [learner(tiny_base, seed, "sketch", own) for seed, own in enumerate((1, 2, 0))]
    assert len({peer.network for peer in peers}) == 1
    assert [peer.adapter_parameters * 4 for peer in peers] == [k * peers[2].adapter_parameters for k in (1, 2, 4)]
    before = [peer.own() for peer in peers]
    for peer in peers:
        peer.train(2)
    bare = [len(peer.encode("fp32")) for peer in peers]
    assert bare[0] < 0.45 * bare[2]
    assert bare[1] < 0.65 * bare[2]

    for peer, was in zip(peers, before, strict=True):
        done = peer.collaborate({other.me: heard(peer, other) for other in peers if other is not peer})
        assert done.accepted
        assert len(done.row.weights) == 3
        assert changed(was, peer.personal()) == {"A", "B"}

    peers[0].save(tmp_path / "state")
    stronger = learner(tiny_base, 0, "sketch", 2)  # the same home on a better day
    stronger.restore(tmp_path / "state")
    assert stronger.personal().equals(peers[0].personal())
    stronger.train(1)


def test_training_alone_redraws_as_well(tiny_base: Base) -> None:
    one = learner(tiny_base, 0, "sketch", 1)
    told = set()
    for _ in range(3):
        one.train(1)
        told.add(one.encode("fp32")[: portion_bytes("sketch", SCHEMA)])
        one.collaborate({})
    assert len(told) == 3


@pytest.mark.parametrize("sharing", ["alternate", "sketch"])
def test_core_svd_is_refused_since_it_leaves_no_component_what_it_was(sharing: Sharing) -> None:
    with pytest.raises(OptionError, match="core-svd"):
        rule_for("core-svd", {}, spec(sharing))


def test_the_live_model_is_left_as_it_was(tiny_base: Base) -> None:
    adapted = attach(tiny_base, spec("sketch", 2))
    write(adapted, adapted.initial)
    trainer = trainer_for(AdamW(), tiny_base, adapted, corpus, training(), None, "me")
    trainer.run(2)

    assert read(adapted).equals(adapted.initial)
