"""What every trust scheme owes, written once and run for each that will ever exist."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.round.collaborate import bounded
from p2pfinetune.trust import NOTHING, SCHEMES, SchemeState
from p2pfinetune.trust._base import MAX_KEPT, MOST_PEERS_KEPT

MEASURED = (
    "first-order",
    "layer-similarity",
    "mixture",
    "prediction-similarity",
    "product-norm",
    "smoothed-validation",
    "validation",
    "weight-similarity",
)
FAITHFUL = ("prediction-similarity", "validation", "weight-similarity")
VARIANTS = [(name, {}) for name in SCHEMES.names()] + [
    *((name, {"faithful": True}) for name in FAITHFUL),
    ("weight-similarity", {"of": "products"}),
    ("layer-similarity", {"of": "products"}),
    ("first-order", {"at": "both"}),
    ("cobo", {"domain": "box"}),
    ("cobo", {"pull": "spring"}),
]
MEASURED_VARIANTS = [(name, options) for name, options in VARIANTS if name in MEASURED]
LAYERS = ("deep", "shallow")
SHAPES = {f"{layer}.lora_{factor}": shape for layer in LAYERS for factor, shape in (("A", (2, 5)), ("B", (4, 2)))}
PEERS_A_ROUND, ROUNDS = 40, 10


@dataclass(frozen=True)
class TinyAdapter:
    tensors: Mapping[str, torch.Tensor]

    def pairs(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        for layer in LAYERS:
            yield layer, self.tensors[f"{layer}.lora_A"], self.tensors[f"{layer}.lora_B"]

    def vector(self) -> torch.Tensor:
        return torch.cat([self.tensors[name].flatten() for name in sorted(self.tensors)])

    def norm(self) -> float:
        return float(torch.linalg.vector_norm(self.vector()))

    def minus(self, other: "TinyAdapter") -> "TinyAdapter":
        return TinyAdapter({name: tensor - other.tensors[name] for name, tensor in self.tensors.items()})


def adapter(seed: int) -> TinyAdapter:
    generator = torch.Generator().manual_seed(seed)
    return TinyAdapter({name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()})


@dataclass(frozen=True)
class TinyWorld:
    """A language model of one matrix: the logits are a fixed random map of the sum of all B A."""

    shares: Mapping[PeerId, tuple[float, ...]] = field(default_factory=dict)
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    kept: SchemeState = NOTHING
    products: Mapping[PeerId, float] = field(default_factory=dict)
    initial: TinyAdapter = TinyAdapter({name: torch.zeros(shape) for name, shape in SHAPES.items()})

    def moved(self, adapter: TinyAdapter) -> TinyAdapter:
        return adapter.minus(self.initial)

    def logits(self, adapter: TinyAdapter, *, last_only: bool = False) -> torch.Tensor:
        positions = torch.linspace(-1.0, 1.0, 2 if last_only else 6)
        contexts = torch.stack([torch.sin(3.0 * positions + i) for i in range(5)], dim=1)
        directions = torch.cos(torch.arange(28.0)).reshape(4, 7)
        return 0.2 * contexts @ sum(b @ a for _, a, b in adapter.pairs()).T @ directions

    def loss(self, adapter: TinyAdapter) -> float:
        logits = self.logits(adapter)
        return float(-logits.log_softmax(1)[:, 3].mean())

    def losses(self, adapters: list[TinyAdapter]) -> list[float]:
        return [self.loss(adapter) for adapter in adapters]

    def once(self, adapter: TinyAdapter, what: str, make: Callable[[], float]) -> float:
        return make()

    def slopes(self, adapters: list[TinyAdapter]) -> list[TinyAdapter]:
        return [self.gradients(adapter)[0][0] for adapter in adapters]

    def gradients(self, adapter: TinyAdapter, parts: int = 1) -> list[tuple[TinyAdapter, int]]:
        live = {name: tensor.clone().requires_grad_() for name, tensor in adapter.tensors.items()}
        loss = -self.logits(TinyAdapter(live)).log_softmax(1)[:, 3].mean()
        found = TinyAdapter(dict(zip(live, torch.autograd.grad(loss, list(live.values())), strict=True)))
        return [(found, 1)] * parts


def people(count: int, seed: int) -> tuple[PeerId, dict[PeerId, TinyAdapter], TinyWorld]:
    names = [PeerId(f"peer{i}") for i in range(count)]
    generator = torch.Generator().manual_seed(seed)
    shares = {peer: tuple(torch.rand(3, generator=generator).double().softmax(0).tolist()) for peer in names}
    return names[0], {peer: adapter(seed * 100 + i) for i, peer in enumerate(names)}, TinyWorld(shares)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@given(count=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_row_is_a_distribution_over_exactly_the_known_peers(name, options, count, seed) -> None:
    me, adapters, world = people(count, seed)

    row = SCHEMES.make(name, options).row(me, adapters, world)

    assert row.weights.keys() == adapters.keys()
    assert sum(row.weights.values()) == pytest.approx(1.0)
    assert all(weight >= 0.0 for weight in row.weights.values())


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@given(seed=st.integers(0, 1000), order=st.permutations(range(5)))
@settings(max_examples=15, deadline=None)
def test_renaming_and_reordering_peers_only_permutes_the_row(name, options, seed, order) -> None:
    me, adapters, world = people(5, seed)
    scheme = SCHEMES.make(name, options)
    old_names = list(adapters)
    renamed = {old: PeerId(f"other{order[i]}") for i, old in enumerate(old_names)}
    shuffled = {renamed[old_names[i]]: adapters[old_names[i]] for i in order}
    elsewhere = TinyWorld({renamed[peer]: shares for peer, shares in world.shares.items()})

    before = scheme.row(me, adapters, world)
    after = scheme.row(renamed[me], shuffled, elsewhere)

    expected = {renamed[peer]: weight for peer, weight in before.weights.items()}
    assert after.weights == pytest.approx(expected, rel=1e-4, abs=1e-6)  # sums of fp32 in another order


@pytest.mark.parametrize(("name", "options"), MEASURED_VARIANTS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_identical_peers_get_equal_trust(name, options, seed) -> None:
    me, adapters, world = people(5, seed)
    adapters[PeerId("peer3")] = TinyAdapter(dict(adapters[PeerId("peer2")].tensors))
    adapters[PeerId("peer4")] = TinyAdapter(dict(adapters[me].tensors))

    free = {**options, "own": 0.0} if name == "mixture" else options  # a floor under mine is not under a copy's
    weights = SCHEMES.make(name, free).row(me, adapters, world).weights

    assert weights[PeerId("peer2")] == pytest.approx(weights[PeerId("peer3")])
    assert weights[PeerId("peer4")] == pytest.approx(weights[me])


@pytest.mark.parametrize(("name", "options"), MEASURED_VARIANTS)
def test_a_world_of_identical_peers_gets_a_uniform_row(name, options) -> None:
    me, adapters, world = people(4, 1)
    same = dict.fromkeys(adapters, adapters[me])

    weights = SCHEMES.make(name, options).row(me, same, world).weights

    assert weights == pytest.approx(dict.fromkeys(same, 0.25))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_masked_peer_weighs_nothing_and_might_as_well_not_be_there(name, options) -> None:
    me, adapters, world = people(5, 3)
    allowed = frozenset({PeerId("peer1"), PeerId("peer3")})
    present = {peer: a for peer, a in adapters.items() if peer == me or peer in allowed}
    scheme = SCHEMES.make(name, options)

    masked = scheme.row(me, adapters, world, allowed).weights

    assert masked[PeerId("peer2")] == masked[PeerId("peer4")] == 0.0
    assert {peer: masked[peer] for peer in present} == pytest.approx(dict(scheme.row(me, present, world).weights))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_peer_alone_trusts_itself_wholly(name, options) -> None:
    me, adapters, world = people(1, 5)

    assert SCHEMES.make(name, options).row(me, adapters, world).weights == {me: 1.0}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_mask_over_everybody_leaves_me(name, options) -> None:
    me, adapters, world = people(4, 6)

    weights = SCHEMES.make(name, options).row(me, adapters, world, frozenset()).weights

    assert weights[me] == 1.0
    assert sum(weights.values()) == 1.0


@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if v[0] not in ("local", "uniform")])
def test_top_k_keeps_me_and_the_best_others(name, options) -> None:
    me, adapters, world = people(6, 7)
    all_of_them = SCHEMES.make(name, options).row(me, adapters, world).rows

    rows = SCHEMES.make(name, {**options, "top_k": 3}).row(me, adapters, world).rows

    for full, weights in zip(all_of_them, rows, strict=True):
        kept = {me, *sorted((peer for peer in full if peer != me), key=lambda peer, full=full: -full[peer])[:2]}
        total = sum(full[peer] for peer in kept)
        assert weights == pytest.approx({peer: full[peer] / total if peer in kept else 0.0 for peer in full})


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_threshold_that_nobody_reaches_leaves_me(name, options) -> None:
    me, adapters, world = people(4, 8)

    weights = SCHEMES.make(name, {**options, "threshold": math.inf}).row(me, adapters, world).weights

    assert weights[me] == 1.0


@pytest.mark.parametrize(("name", "options"), MEASURED_VARIANTS)
def test_an_adapter_of_infinities_is_excluded_and_disturbs_nobody(name, options) -> None:
    me, adapters, world = people(4, 9)
    poisoned = PeerId("poisoned")
    scheme = SCHEMES.make(name, options)
    before = scheme.row(me, adapters, world).weights

    bad = TinyAdapter({tensor: torch.full(shape, torch.inf) for tensor, shape in SHAPES.items()})
    after = scheme.row(me, {**adapters, poisoned: bad}, world).weights

    assert after[poisoned] == 0.0
    assert {peer: after[peer] for peer in before} == pytest.approx(dict(before))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@given(count=st.integers(1, 6), seed=st.integers(0, 1000), most=st.floats(0.01, 1.0))
@settings(max_examples=15, deadline=None)
def test_of_every_scheme_a_bound_takes_from_neighbours_what_is_above_it_and_gives_it_to_me(
    name, options, count, seed, most
) -> None:
    me, adapters, world = people(count, seed)
    row = SCHEMES.make(name, options).row(me, adapters, world)

    found = bounded(row, me, most)

    others = [peer for peer in adapters if peer != me]
    for before, weights in zip(row.rows, found.rows, strict=True):
        assert {peer: weights[peer] for peer in others} == {peer: min(before[peer], most) for peer in others}
        assert sum(weights.values()) == pytest.approx(1.0)
        assert weights[me] >= before[me]
    assert all(found.weights[peer] <= most * (1.0 + 1e-12) for peer in others)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@given(count=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_a_row_of_layers_is_a_distribution_in_each_and_their_mean_is_shown(name, options, count, seed) -> None:
    me, adapters, world = people(count, seed)
    scheme = SCHEMES.make(name, options)

    row = scheme.row(me, adapters, world)

    assert set(row.layers) == (set(LAYERS) if scheme.by_layer else set())
    assert all(sum(weights.values()) == pytest.approx(1.0) for weights in row.rows)
    assert all(weights.keys() == adapters.keys() for weights in row.rows)
    means = {peer: sum(weights[peer] for weights in row.rows) / len(row.rows) for peer in adapters}
    assert row.weights == pytest.approx(means)


def saved(kept: SchemeState) -> SchemeState:
    """As it comes back from a checkpoint."""
    return SchemeState(json.loads(json.dumps({name: dict(table) for name, table in kept.tables.items()})))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_what_it_remembers_survives_a_restart_to_the_bit(name, options) -> None:
    scheme, rows = SCHEMES.make(name, options), []
    unbroken = broken = NOTHING
    for seed in range(3):
        me, adapters, world = people(5, seed)
        row, unbroken = scheme.judged(me, adapters, replace(world, kept=unbroken))
        again, broken = scheme.judged(me, adapters, replace(world, kept=saved(broken)))
        rows.append((dict(row.weights), dict(again.weights)))

    assert all(row == again for row, again in rows)
    assert saved(broken) == broken == unbroken


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_to_be_asked_twice_in_a_round_does_not_move_its_memory_on(name, options) -> None:
    scheme = SCHEMES.make(name, options)
    me, adapters, world = people(5, 1)
    before = scheme.judged(me, adapters, world)[1]
    me, adapters, world = people(5, 2)
    world = replace(world, kept=before)

    first = scheme.judged(me, adapters, world)
    scheme.row(me, adapters, world, frozenset({PeerId("peer1")}))

    assert scheme.judged(me, adapters, world) == first
    assert world.kept == before


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_what_it_remembers_is_bounded_whoever_comes_and_goes(name, options) -> None:
    scheme, kept = SCHEMES.make(name, options), NOTHING
    _, someones, world = people(4, 3)
    held = list(someones.values())
    me = PeerId("me")
    for number in range(ROUNDS):
        crowd = {PeerId(f"{number}-{i}"): held[i % 4] for i in range(PEERS_A_ROUND)}
        shares = dict.fromkeys([me, *crowd], (0.5, 0.5))
        context = replace(world, shares=shares, kept=kept)
        kept = scheme.judged(me, {me: held[0], **crowd}, context)[1]

    assert PEERS_A_ROUND * ROUNDS > MOST_PEERS_KEPT
    assert sum(len(table) for table in kept.tables.values()) <= min(MAX_KEPT, 16 * MOST_PEERS_KEPT)
    assert all(len(table) <= MOST_PEERS_KEPT for table in kept.tables.values())


def test_a_memory_beyond_all_measure_or_of_no_number_is_a_mistake_of_the_scheme() -> None:
    with pytest.raises(ValueError, match="at most"):
        SchemeState({"table": {str(i): 0.0 for i in range(MAX_KEPT + 1)}})
    with pytest.raises(ValueError, match="finite"):
        SchemeState({"table": {"peer": math.nan}})


@given(count=st.integers(1, 6), seed=st.integers(0, 1000), least=st.floats(0.0, 1.0))
@settings(max_examples=30, deadline=None)
def test_a_mixture_leaves_me_the_least_share_and_the_others_their_proportions(count, seed, least) -> None:
    me, adapters, world = people(count, seed)
    free = SCHEMES.make("mixture", {"own": 0.0}).row(me, adapters, world).weights

    weights = SCHEMES.make("mixture", {"own": least}).row(me, adapters, world).weights

    assert weights[me] == pytest.approx(max(free[me], least))
    for peer in adapters.keys() - {me}:
        assert weights[peer] * (1.0 - free[me]) == pytest.approx(free[peer] * (1.0 - weights[me]))


def test_names_map_to_distinct_classes_and_distinct_rows() -> None:
    me, adapters, world = people(4, 11)
    world = replace(
        world, kept=SchemeState({"behind": {"peer1": 0.7}})
    )  # or who remembers would say what who forgets says

    classes = {SCHEMES.find(name) for name in SCHEMES.names()}
    rows = {
        tuple(round(w, 9) for w in SCHEMES.make(n, o).row(me, adapters, world).weights.values()) for n, o in VARIANTS
    }

    assert len(classes) == len(SCHEMES.names())
    assert len(rows) == len(VARIANTS)


@pytest.mark.parametrize("name", SCHEMES.names())
def test_every_scheme_says_what_it_does(name: str) -> None:
    assert len(SCHEMES.help(name)) > 40


@pytest.mark.parametrize("name", SCHEMES.names())
def test_an_unknown_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(OptionError, match="no option 'hope'"):
        SCHEMES.make(name, {"hope": 1})


def test_schemes_load_without_torch() -> None:
    code = (
        "import sys; from p2pfinetune.trust import SCHEMES; [SCHEMES.find(n) for n in SCHEMES.names()];"
        "print('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
