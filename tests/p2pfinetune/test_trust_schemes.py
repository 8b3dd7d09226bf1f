"""Each scheme against a slow and obvious version of its formula (papers: arXiv 2404.09753 and its code)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest
import torch

from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import Adapter, FactorSet
from p2pfinetune.names import PeerId
from p2pfinetune.trust import SCHEMES

ME, NEAR, FAR = PeerId("me"), PeerId("near"), PeerId("far")
SHAPES = {"a.lora_A": (2, 5), "a.lora_B": (3, 2), "b.lora_A": (2, 4), "b.lora_B": (6, 2)}


def random_adapter(seed: int, size: float = 1.0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    return Adapter({name: size * torch.randn(shape, generator=generator) for name, shape in SHAPES.items()})


INITIAL = Adapter(
    {name: t if name.endswith("A") else torch.zeros_like(t) for name, t in random_adapter(0).tensors.items()}
)
MINE = INITIAL.plus(random_adapter(1))
ADAPTERS = {
    ME: MINE,
    NEAR: MINE.plus(random_adapter(2, 0.3)),
    FAR: INITIAL.plus(random_adapter(3)),
}


@dataclass(frozen=True)
class Told:
    """A context whose answers are given."""

    known: Mapping[PeerId, float] = field(default_factory=dict)
    predictions: Mapping[PeerId, torch.Tensor] = field(default_factory=dict)
    shares: Mapping[PeerId, tuple[float, ...]] = field(default_factory=dict)
    initial: Adapter = INITIAL
    asked_last_only: list[bool] = field(default_factory=list)

    def moved(self, adapter: Adapter) -> FactorSet:
        return adapter.minus(self.initial)

    def loss(self, adapter: Adapter) -> float:
        return self.known[self._owner(adapter)]

    def losses(self, adapters: list[Adapter]) -> list[float]:
        return [self.loss(adapter) for adapter in adapters]

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        return make()

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> torch.Tensor:
        self.asked_last_only.append(last_only)
        return self.predictions[self._owner(adapter)]

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        raise NotImplementedError

    def _owner(self, adapter: Adapter) -> PeerId:
        return next(peer for peer, known in ADAPTERS.items() if known is adapter)


def row(name: str, options: dict, told: Told) -> dict[PeerId, float]:
    return dict(SCHEMES.make(name, options).row(ME, ADAPTERS, told).weights)


def softmax(scores: Mapping[PeerId, float]) -> dict[PeerId, float]:
    powers = {peer: math.exp(score) for peer, score in scores.items()}
    return {peer: power / sum(powers.values()) for peer, power in powers.items()}


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left * right).sum() / left.norm() / right.norm())


def test_weight_similarity_compares_how_the_factors_moved_since_the_start() -> None:
    moved = {peer: adapter.minus(INITIAL).vector() for peer, adapter in ADAPTERS.items()}

    expected = softmax({peer: cosine(moved[ME], vector) / 0.1 for peer, vector in moved.items()})

    assert row("weight-similarity", {"temperature": 0.1}, Told()) == pytest.approx(expected, rel=1e-4)


def test_weight_similarity_of_products_is_the_cosine_of_the_dense_products() -> None:
    dense = {p: torch.cat([(b @ a).flatten() for _, a, b in adapter.pairs()]) for p, adapter in ADAPTERS.items()}

    expected = softmax({peer: cosine(dense[ME], product) / 0.2 for peer, product in dense.items()})

    found = row("weight-similarity", {"of": "products", "temperature": 0.2}, Told())
    assert found == pytest.approx(expected, rel=1e-4)


def test_products_do_not_care_in_which_gauge_the_factors_are() -> None:
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(9)))[0]
    turned = {name: turn.T @ t if name.endswith("A") else t @ turn for name, t in ADAPTERS[NEAR].tensors.items()}
    scheme = SCHEMES.make("weight-similarity", {"of": "products"})

    before = scheme.row(ME, ADAPTERS, Told()).weights
    after = scheme.row(ME, {**ADAPTERS, NEAR: Adapter(turned)}, Told()).weights

    assert after == pytest.approx(dict(before), rel=1e-4)


def test_faithful_weight_similarity_is_the_mean_of_cosines_of_rows_in_the_papers_layout() -> None:
    def similarity(left: Adapter, right: Adapter) -> float:
        rows = [
            cosine(one, other)
            for name in SHAPES
            for one, other in zip(left.tensors[name].T, right.tensors[name].T, strict=True)
        ]
        return sum(rows) / len(rows)

    expected = softmax({peer: similarity(MINE, adapter) for peer, adapter in ADAPTERS.items()})

    assert row("weight-similarity", {"faithful": True}, Told()) == pytest.approx(expected, rel=1e-4)


def test_an_adapter_that_has_not_moved_yet_trusts_everybody_alike() -> None:
    weights = SCHEMES.make("weight-similarity").row(ME, {**ADAPTERS, ME: INITIAL}, Told()).weights

    assert weights == pytest.approx(dict.fromkeys(ADAPTERS, 1 / 3))


LOSSES = {ME: 3.0, NEAR: 3.02, FAR: 3.4}


def test_validation_is_a_softmax_of_losses() -> None:
    expected = softmax({peer: -loss / 0.05 for peer, loss in LOSSES.items()})

    assert row("validation", {"temperature": 0.05}, Told(known=LOSSES)) == pytest.approx(expected)


def test_faithful_validation_is_a_softmax_of_perplexities() -> None:
    expected = softmax({peer: -math.exp(loss) for peer, loss in LOSSES.items()})

    assert row("validation", {"faithful": True}, Told(known=LOSSES)) == pytest.approx(expected)


def test_a_threshold_of_validation_counts_temperatures_worse_than_me() -> None:
    weights = row("validation", {"temperature": 0.05, "threshold": -1.0}, Told(known=LOSSES))

    assert weights[FAR] == 0.0
    assert weights[NEAR] > 0.0


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("loss", [math.nan, math.inf, 800.0])
def test_validation_excludes_an_adapter_without_a_sensible_loss(*, faithful: bool, loss: float) -> None:
    weights = row("validation", {"faithful": faithful}, Told(known={**LOSSES, FAR: loss}))

    assert weights[FAR] == 0.0


def test_validation_leaves_an_own_adapter_that_is_not_a_number_for_those_that_are() -> None:
    weights = row("validation", {}, Told(known={**LOSSES, ME: math.nan}))

    assert weights[ME] == 0.0
    assert weights[NEAR] > weights[FAR]


def predictions(positions: int = 4, vocabulary: int = 30) -> dict[PeerId, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    mine = 3.0 * torch.randn(positions, vocabulary, generator=generator)
    return {
        ME: mine,
        NEAR: mine + 0.3 * torch.randn(positions, vocabulary, generator=generator),
        FAR: 3.0 * torch.randn(positions, vocabulary, generator=generator),
    }


def kept(logits: torch.Tensor, top: int, *, as_probabilities: bool) -> torch.Tensor:
    sparse = torch.zeros_like(logits)
    for position, entries in enumerate(logits):
        best = entries.argsort(descending=True)[:top]
        sparse[position, best] = entries[best].softmax(0) if as_probabilities else entries[best]
    return sparse


def test_prediction_similarity_is_a_softmax_of_distances_relative_to_the_mean_one() -> None:
    told = Told(predictions=predictions())
    sparse = {peer: kept(logits, 7, as_probabilities=True) for peer, logits in told.predictions.items()}
    distance = {peer: float((sparse[ME] - other).abs().sum(dim=1).mean()) for peer, other in sparse.items()}
    mean = (distance[NEAR] + distance[FAR]) / 2
    distance[ME] = distance[NEAR]  # not zero, which it is for everybody

    expected = softmax({peer: -3.0 * d / mean for peer, d in distance.items()})

    assert row("prediction-similarity", {"top": 7, "sharpness": 3.0}, told) == pytest.approx(expected, rel=1e-4)
    assert told.asked_last_only == [False] * 3


def test_faithful_prediction_similarity_takes_raw_logits_of_last_positions_over_the_sum_of_distances() -> None:
    told = Told(predictions=predictions())
    sparse = {peer: kept(logits, 7, as_probabilities=False) for peer, logits in told.predictions.items()}
    distance = {peer: float((sparse[ME] - other).abs().sum(dim=1).mean()) for peer, other in sparse.items()}

    expected = softmax({peer: -10.0 * d / sum(distance.values()) for peer, d in distance.items()})

    assert row("prediction-similarity", {"top": 7, "faithful": True}, told) == pytest.approx(expected, rel=1e-4)
    assert told.asked_last_only == [True] * 3


def test_more_kept_tokens_than_the_vocabulary_has_are_all_of_them() -> None:
    told = Told(predictions=predictions())

    assert row("prediction-similarity", {"top": 1000}, told) == row("prediction-similarity", {"top": 30}, told)


def test_rounding_alone_is_no_distance() -> None:
    mine = predictions()[ME]
    noisy = {ME: mine, NEAR: mine * (1 + 1.2e-7), FAR: mine * (1 + 2.4e-7)}

    assert row("prediction-similarity", {}, Told(predictions=noisy)) == pytest.approx(dict.fromkeys(ADAPTERS, 1 / 3))


def test_a_peer_that_predicts_nonsense_is_excluded_and_not_part_of_the_mean() -> None:
    told = Told(predictions=predictions())
    without = SCHEMES.make("prediction-similarity").row(ME, {ME: MINE, NEAR: ADAPTERS[NEAR]}, told).weights

    poisoned = Told(predictions={**told.predictions, FAR: torch.full((4, 30), math.nan)})

    assert row("prediction-similarity", {}, poisoned) == pytest.approx({**without, FAR: 0.0})


SHARES = {ME: (0.75, 0.25), NEAR: (0.75, 0.25), FAR: (0.25, 0.75)}


def test_the_oracle_is_the_row_of_shares_times_their_transpose_normalised() -> None:
    overlap = {ME: 0.625, NEAR: 0.625, FAR: 0.375}

    expected = {peer: value / sum(overlap.values()) for peer, value in overlap.items()}

    assert row("oracle", {}, Told(shares=SHARES)) == pytest.approx(expected)


def test_the_oracle_gives_nothing_to_a_peer_with_nothing_in_common() -> None:
    weights = row("oracle", {}, Told(shares={ME: (1.0, 0.0), NEAR: (1.0, 0.0), FAR: (0.0, 1.0)}))

    assert weights == pytest.approx({ME: 0.5, NEAR: 0.5, FAR: 0.0})


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ({}, "me has none"),
        ({ME: (1.0,), NEAR: (1.0,)}, "far has none"),
        ({**SHARES, FAR: (0.5, 0.6)}, "no distribution"),
        ({**SHARES, FAR: (1.5, -0.5)}, "no distribution"),
        ({**SHARES, FAR: (0.2, 0.3, 0.5)}, "cannot be compared"),
    ],
)
def test_the_oracle_says_which_shares_it_lacks(shares: dict, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint) as raised:
        row("oracle", {}, Told(shares=shares))
    assert raised.value.hint


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("weight-similarity", {"temperature": 0.0}),
        ("weight-similarity", {"of": "everything"}),
        ("validation", {"temperature": -1.0}),
        ("prediction-similarity", {"sharpness": 0.0}),
        ("prediction-similarity", {"top": 0}),
    ],
)
def test_an_option_out_of_range_is_refused(name: str, options: dict) -> None:
    with pytest.raises(OptionError):
        SCHEMES.make(name, options)
