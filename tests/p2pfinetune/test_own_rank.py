"""Devices that hold fewer components than their network speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune.codec import CODECS
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.model.adapter import (
    Adapter,
    attach,
    cut,
    initial_adapter,
    network_digest,
    padded,
    write,
)
from p2pfinetune.model.base import Base
from p2pfinetune.model.peft_folder import import_folder
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate, encode_update, inspect, told
from p2pfinetune.simulation.config import AdapterChoice, PeerText, SimulationConfig
from p2pfinetune.trust import SCHEMES
from tests.p2pfinetune.test_learner import corpus

SHAPES = {"m.q": (6, 10), "m.v": (5, 7)}
SPEC = AdapterSpec(rank=4, own_rank=2)
START = initial_adapter(SHAPES, SPEC)
WIRE = dict(START.schema)


def whole_numbers(seed: int, rank: int) -> Adapter:
    """Whose products are exact in fp32."""
    dice = torch.Generator().manual_seed(seed)
    shapes = cut(START, rank).schema
    return Adapter({name: torch.randint(-9, 10, shape, generator=dice).float() for name, shape in shapes.items()})


def test_padding_changes_no_product_and_is_nothing_in_the_update() -> None:
    mine = whole_numbers(1, 2)

    wide = padded(mine, START)

    assert wide.schema == WIRE
    for (_, a, b), (_, wide_a, wide_b) in zip(mine.pairs(), wide.pairs(), strict=True):
        assert torch.equal(b @ a, wide_b @ wide_a)
    assert cut(wide, 2).equals(mine)
    delta = told(mine, cut(START, 2), spec=SPEC)
    assert delta.schema == WIRE
    assert all(torch.equal(t, wide.tensors[n] - START.tensors[n]) for n, t in delta.tensors.items())
    assert delta.norm() == pytest.approx(mine.minus(cut(START, 2)).norm())


def test_of_a_neighbour_with_more_components_the_first_are_heard_and_of_one_with_fewer_all() -> None:
    narrow, wide = whole_numbers(1, 2), whole_numbers(2, 4)
    codec = CODECS.make("fp32")

    of_wide = inspect(encode_update(wide, START, codec, spec=AdapterSpec(rank=4)), "fp32", WIRE, max_norm=1e9)
    of_narrow = inspect(encode_update(narrow, cut(START, 2), codec, spec=SPEC), "fp32", WIRE, max_norm=1e9)

    assert isinstance(of_wide, LoraUpdate)
    assert isinstance(of_narrow, LoraUpdate)
    close(of_wide.adapter(cut(START, 2), narrow), cut(wide, 2))
    close(of_narrow.adapter(START, wide), padded(narrow, START))


def close(left: Adapter, right: Adapter) -> None:
    for name, tensor in left.tensors.items():
        torch.testing.assert_close(tensor, right.tensors[name])


def test_the_network_is_the_same_whatever_a_device_holds_and_so_is_what_the_model_computes(tiny_base: Base) -> None:
    narrow, wide = (attach(tiny_base, AdapterSpec(rank=4, own_rank=own)) for own in (2, 0))
    dice = torch.Generator().manual_seed(3)
    mine = Adapter({n: 0.1 * torch.randn(s, generator=dice) for n, s in narrow.schema.items()})
    write(narrow, mine)
    write(wide, padded(mine, wide.start))
    ids = torch.arange(1, 17).unsqueeze(0)

    with torch.inference_mode():
        one, other = (live.model(input_ids=ids).logits for live in (narrow, wide))

    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in narrow.trained.values()) * 2 == sum(p.numel() for p in wide.trained.values())
    called = {network_digest(tiny_base, live.spec, live.targets, live.start, "lab") for live in (narrow, wide)}
    assert len(called) == 1
    assert narrow.shared_schema == wide.shared_schema


def learner_of(base: Base, seed: int, **changes: Any) -> Learner:
    training = TrainingOptions(batch_size=2, context=16, lr=5e-3, seed=seed)
    spec = AdapterSpec(rank=4, **changes)
    options = LearnerOptions(spec=spec, training=training, tolerance=5.0, guarded=False, trust="uniform")
    return Learner(base, corpus(seed), options, me=PeerId(f"peer {seed}"), group="test")


@pytest.mark.parametrize("sharing", ["both", "a", "b"])
def test_peers_of_different_rank_learn_from_each_other(tiny_base: Base, tmp_path: Path, sharing: str) -> None:
    narrow, wide = learner_of(tiny_base, 0, own_rank=2, sharing=sharing), learner_of(tiny_base, 1, sharing=sharing)
    assert narrow.network == wide.network
    assert narrow.max_blob_bytes == wide.max_blob_bytes
    for learner in (narrow, wide):
        learner.train(2)  # in the first, B is zero and A learns nothing
    before = {learner.me: learner.own() for learner in (narrow, wide)}
    blobs = {learner.me: learner.encode("fp32") for learner in (narrow, wide)}
    assert len(blobs[narrow.me]) == len(blobs[wide.me])

    for learner, other in ((narrow, wide), (wide, narrow)):
        admitted = learner.admit(blobs[other.me], "fp32")
        assert isinstance(admitted, LoraUpdate)
        done = learner.collaborate({other.me: admitted})
        assert done.accepted
        assert done.row.weights == {learner.me: 0.5, other.me: 0.5}
        assert learner.personal().schema == before[learner.me].schema
        assert not learner.personal().equals(before[learner.me])

    narrow.export(tmp_path / "peft", "personal")
    spec, exported = import_folder(tmp_path / "peft")
    assert (spec.rank, spec.alpha) == (4, 16)
    close(cut(exported, 2), narrow.personal())
    narrow.save(tmp_path / "state")
    with pytest.raises(CheckpointError, match="of own rank 2, and here it is 4") as refused:
        wide.restore(tmp_path / "state")
    assert refused.value.hint.startswith("start with --own-rank 2")
    again = learner_of(tiny_base, 0, own_rank=2, sharing=sharing)
    again.restore(tmp_path / "state")
    assert again.personal().equals(narrow.personal())


def test_a_rule_of_any_rank_hears_all_components_of_a_stronger_neighbour_and_cuts_at_the_own_rank(
    tiny_base: Base,
) -> None:
    narrow, wide = learner_of(tiny_base, 0, own_rank=2), learner_of(tiny_base, 1)
    flexible = LearnerOptions(
        spec=narrow.options.spec, training=narrow.options.training, trust="uniform", merge="core-svd", tolerance=5.0,
        credit=5.0,
    )  # fmt: skip
    narrow = Learner(tiny_base, corpus(0), flexible, me=narrow.me, group="test")
    for learner in (narrow, wide):
        learner.train(3)
    told_by_wide = narrow.admit(wide.encode("fp32"), "fp32")
    assert isinstance(told_by_wide, LoraUpdate)

    done = narrow.collaborate({wide.me: told_by_wide})

    assert done.accepted
    for path, a, b in narrow.personal().pairs():
        products = [tensors[f"{path}.lora_B"] @ tensors[f"{path}.lora_A"] for tensors in factors(narrow, wide)]
        weights = [done.row.weights[learner.me] for learner in (narrow, wide)]
        u, s, vt = torch.linalg.svd(sum(w * p.double() for w, p in zip(weights, products, strict=True)))
        torch.testing.assert_close((b @ a).double(), (u[:, :2] * s[:2]) @ vt[:2], atol=1e-5, rtol=1e-3)


def factors(*learners: Learner) -> list[Any]:
    return [learner.own().tensors for learner in learners]


def test_product_norm_weighs_by_the_length_of_the_dense_products_whatever_the_ranks() -> None:
    peers = {PeerId(str(rank)): padded(whole_numbers(rank, rank), START) for rank in (1, 2, 4)}
    dense = {
        peer: torch.cat([(b @ a).double().flatten() for _, a, b in adapter.pairs()]).norm()
        for peer, adapter in peers.items()
    }

    row = SCHEMES.make("product-norm", {}).row(PeerId("1"), peers, None)  # type: ignore[arg-type]

    for peer, weight in row.weights.items():
        assert weight == pytest.approx(float(dense[peer] / sum(dense.values())))


def test_a_rank_above_the_network_s_is_an_error() -> None:
    with pytest.raises(OptionError, match="above the network's"):
        AdapterSpec(rank=4, own_rank=5)
    with pytest.raises(OptionError, match="above the network's"):
        AdapterChoice(rank=4, own_ranks=(2, 8))


def test_a_simulation_deals_ranks_to_its_peers_in_turn() -> None:
    texts = tuple(PeerText(name=name, data=(".",)) for name in "abc")
    config = SimulationConfig(peers=texts, adapter=AdapterChoice(rank=8, own_ranks=(4, 8)))

    assert [config.learner_options(PeerId(p.name), i).spec.held_rank for i, p in enumerate(texts)] == [4, 8, 4]
