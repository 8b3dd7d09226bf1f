"""What only a comparison of the updates shows: who is far too large, and who copied whom."""

from __future__ import annotations

import pytest
import torch

from p2pfinetune.codec import CODECS
from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import Adapter, FactorSet
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.round.collaborate import collaborate, merged_by
from p2pfinetune.round.comparison import FACTOR, NORM_OUTLIER, copies, norm_outliers
from p2pfinetune.trust import SCHEMES

ME, A, B, C, D = (PeerId(name) for name in ("me", "a", "b", "c", "d"))


def delta(seed: int, norm: float = 1.0) -> Adapter:
    dice = torch.Generator().manual_seed(seed)
    raw = Adapter({"x.lora_A": torch.randn((4, 64), generator=dice), "x.lora_B": torch.randn((96, 4), generator=dice)})
    return times(raw, norm / raw.norm())


def times(adapter: Adapter, factor: float) -> Adapter:
    return Adapter({name: tensor * factor for name, tensor in adapter.tensors.items()})


def mixed(one: Adapter, other: Adapter, part: float) -> Adapter:
    pairs = ((name, t, other.tensors[name]) for name, t in one.tensors.items())
    return Adapter({name: (1.0 - part) * t + part * o for name, t, o in pairs})


def test_who_is_many_times_longer_than_all_others_is_an_outlier() -> None:
    found = norm_outliers(delta(0), {A: delta(1, 0.7), B: delta(2, 1.3), C: delta(3, 10.0)})

    assert found.keys() == {C}
    assert found[C].reason == NORM_OUTLIER
    assert "10" in found[C].detail


@pytest.mark.parametrize(("length", "is_outlier"), [(0.98 * FACTOR, False), (1.02 * FACTOR, True)])
def test_the_bound_is_a_factor_of_the_usual_length(length: float, is_outlier: bool) -> None:
    assert bool(norm_outliers(delta(0), {A: delta(1), B: delta(2, length)})) == is_outlier


def test_a_newcomer_with_nothing_of_its_own_hears_its_neighbours() -> None:
    assert norm_outliers(delta(0, 1e-6), {A: delta(1), B: delta(2), C: delta(3, 1.5)}) == {}


def test_a_crowd_of_small_updates_cannot_shut_out_who_is_as_far_as_i_am() -> None:
    crowd = {PeerId(f"small-{n}"): delta(n, 1e-3) for n in range(8)}

    assert norm_outliers(delta(0), {**crowd, A: delta(9, 1.5)}) == {}


def test_one_neighbour_alone_is_never_an_outlier() -> None:
    assert norm_outliers(delta(0, 1e-9), {A: delta(1, 1e6)}) == {}


def test_small_updates_are_no_outliers() -> None:
    assert norm_outliers(delta(0), {A: delta(1, 0.0), B: delta(2, 1e-3)}) == {}


@pytest.mark.parametrize("codec", CODECS.names())
def test_a_copy_of_the_bytes_is_found(codec: str) -> None:
    written = CODECS.make(codec)
    deltas = [written.decode(written.encode(delta(seed).tensors), delta(1).schema) for seed in (1, 1, 2)]

    assert copies({p: Adapter(d) for p, d in zip((A, B, C), deltas, strict=True) if not isinstance(d, Refusal)}) == (
        (A, B),
    )


FOUND_ANEW = (
    "lora-quant",
    "lora-quant-2",
)  # components and all: a second writing turns by 0.07, more than honest peers


@pytest.mark.parametrize("factor", [1.0, 0.1, 7.3])
@pytest.mark.parametrize("codec", [name for name in CODECS.names() if name not in FOUND_ANEW])
def test_a_copy_is_found_however_it_is_scaled_and_written_anew(factor: float, codec: str) -> None:
    written = CODECS.make(codec)
    schema = delta(1).schema
    original = written.decode(written.encode(delta(1).tensors), schema)
    assert not isinstance(original, Refusal)
    copied = written.decode(written.encode(times(Adapter(original), factor).tensors), schema)
    assert not isinstance(copied, Refusal)

    assert copies({A: Adapter(original), B: Adapter(copied), C: delta(2)}) == ((A, B),)


def test_honest_peers_that_have_merged_for_long_are_no_copies() -> None:
    """As near as the nearest that was measured: see COPY_COSINE."""
    common = delta(1)
    near = mixed(common, delta(2), 0.0085)
    one, other = common.vector().double(), near.vector().double()
    cosine = float(one @ other / one.norm() / other.norm())
    assert 1.0 - cosine == pytest.approx(3.6e-5, rel=0.2)

    assert copies({A: common, B: near}) == ()


def test_peers_that_have_not_moved_are_copies_of_nobody() -> None:
    assert copies({A: delta(1, 0.0), B: delta(2, 0.0), C: delta(3)}) == ()


def test_every_pair_of_a_crowd_is_told() -> None:
    assert copies({C: delta(1), A: delta(1), B: delta(1), D: delta(2)}) == ((A, B), (A, C), (B, C))
    assert copies({A: delta(1)}) == copies({}) == ()


class World:
    """A context that measures nothing."""

    initial = delta(99)

    def moved(self, adapter: Adapter) -> FactorSet:
        return adapter.minus(self.initial)


def test_an_outlier_weighs_nothing_in_the_merge_and_a_copy_weighs_what_it_did() -> None:
    start = World.initial
    own, others = start.plus(delta(0)), {A: start.plus(delta(1)), B: start.plus(delta(1)), C: start.plus(delta(3, 50))}

    heard = collaborate(ME, own, others, SCHEMES.make("uniform"), World())  # type: ignore[arg-type]

    assert heard.row.weights == pytest.approx({ME: 1 / 3, A: 1 / 3, B: 1 / 3, C: 0.0})
    assert {peer: refusal.reason for peer, refusal in heard.refused.items()} == {C: NORM_OUTLIER}
    assert heard.copies == ((A, B),)
    merged = merged_by(heard.row, ME, own, others, RULES.make("factor-mean"))
    assert merged.minus(start).norm() < 2.0


def test_who_is_not_allowed_is_not_heard_either() -> None:
    others = {A: World.initial.plus(delta(1)), C: World.initial.plus(delta(3, 50))}
    scheme = SCHEMES.make("uniform")

    heard = collaborate(ME, World.initial.plus(delta(0)), others, scheme, World(), frozenset({C}))  # type: ignore[arg-type]

    assert heard.row.weights == {ME: 1.0, A: 0.0, C: 0.0}
