"""Private publishing: what goes out is clipped and hidden, and what it betrays is counted as the theory has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from p2pfinetune.errors import OptionError
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.round.privacy import clipped, epsilon, privatised

DELTA = 1e-5


def update(scale: float = 1.0, seed: int = 0, width: int = 40) -> Adapter:
    dice = torch.Generator().manual_seed(seed)
    shapes = {"m.q.lora_A": (4, width), "m.q.lora_B": (width, 4)}
    return Adapter({name: scale * torch.randn(shape, generator=dice) for name, shape in shapes.items()})


def zeros(width: int) -> Adapter:
    return Adapter({"m.q.lora_A": torch.zeros(4, width), "m.q.lora_B": torch.zeros(width, 4)})


def exact_epsilon(mu: float, delta: float) -> float:
    """Of the Gaussian mechanism with sensitivity over deviation `mu` (Balle and Wang 2018, theorem 8), by bisection."""

    def delta_at(eps: float) -> float:
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu))

    low, high = 0.0, mu * mu + 20 * mu + 1
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return high


def zcdp_epsilon(mu: float, delta: float) -> float:
    """Bun and Steinke 2016: an upper bound that is easy to write down."""
    rho = mu * mu / 2
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


@given(st.floats(1e-6, 1e6), st.floats(1e-4, 1e4), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_clipped_update_is_never_longer_than_the_bound(scale: float, clip: float, seed: int) -> None:
    length = math.sqrt(math.fsum(float((t * t).sum()) for t in clipped(update(scale, seed), clip).values()))

    assert length <= clip
    assert length >= min(clip, update(scale, seed).norm()) * (1 - 1e-6)


def test_an_update_within_the_bound_is_left_as_it_is() -> None:
    short = update(0.01)

    assert all(torch.equal(t.float(), short.tensors[name]) for name, t in clipped(short, clip=100.0).items())


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_gives_nothing_but_noise(wrong: float) -> None:
    broken = Adapter({**update().tensors, "m.q.lora_A": torch.full((4, 40), wrong)})

    assert all(not t.any() for t in clipped(broken, 1.0).values())
    assert math.isfinite(privatised(broken, 1.0, 1.0).norm())


def test_noise_is_gaussian_of_the_deviation_that_sensitivity_and_multiplier_give() -> None:
    noised = privatised(zeros(5000), clip=0.5, noise=3.0, random_bytes=np.random.default_rng(7).bytes)

    values = noised.vector().double().numpy()
    assert values.std() == pytest.approx(2 * 0.5 * 3.0, rel=0.02)
    assert kstest(values / 3.0, "norm").pvalue > 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


def test_noise_is_centred_on_the_clipped_update() -> None:
    far = update(100.0)
    dice = np.random.default_rng(3)

    mean = torch.stack([privatised(far, 1.0, 0.01, dice.bytes).vector() for _ in range(200)]).mean(0)

    expected = torch.cat([t.reshape(-1) for t in clipped(far, 1.0).values()]).float()
    assert torch.linalg.vector_norm(mean - expected) < 3 * 0.02 * math.sqrt(320 / 200)


def test_no_seed_of_ours_repeats_the_noise() -> None:
    torch.manual_seed(0)
    first = privatised(update(), 1.0, 1.0)
    torch.manual_seed(0)

    assert not torch.equal(first.vector(), privatised(update(), 1.0, 1.0).vector())


@given(st.floats(0.05, 50.0), st.integers(1, 500), st.sampled_from([1e-3, 1e-5, 1e-8]))
@settings(max_examples=60, deadline=None)
def test_the_accountant_lies_between_the_exact_value_and_the_simple_bound(
    noise: float, count: int, delta: float
) -> None:
    mu = math.sqrt(count) / noise

    found = epsilon([(noise, count)], delta)

    assert exact_epsilon(mu, delta) * (1 - 1e-6) <= found <= zcdp_epsilon(mu, delta) * 1.02


def test_an_accountant_that_took_the_clip_for_the_sensitivity_would_be_seen() -> None:
    assert epsilon([(2.0, 10)], DELTA) < exact_epsilon(math.sqrt(10) / 1.0, DELTA)


def test_every_further_publication_costs_and_more_noise_costs_less() -> None:
    spends = [epsilon([(1.0, count)], DELTA) for count in (0, 1, 2, 10, 100, 1000)]

    assert spends == sorted(set(spends))
    assert spends[0] == 0.0
    assert epsilon([(4.0, 10)], DELTA) < epsilon([(2.0, 10)], DELTA)


def test_publications_with_different_noise_compose_in_any_order() -> None:
    both = epsilon([(1.0, 3), (2.0, 5)], DELTA)

    assert both == pytest.approx(epsilon([(2.0, 5), (1.0, 3)], DELTA))
    assert both == pytest.approx(epsilon([(1.0, 2), (2.0, 5), (1.0, 1)], DELTA))
    assert both > epsilon([(1.0, 3)], DELTA)
    assert exact_epsilon(math.sqrt(3 + 5 / 4), DELTA) <= both


def test_a_noise_too_small_to_hide_anything_is_counted_as_such() -> None:
    assert epsilon([(0.002, 20)], DELTA) > 1e6


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.nan, 1.0), (1.0, math.inf)])
def test_numbers_without_meaning_are_refused(clip: float, noise: float) -> None:
    with pytest.raises(OptionError, match="positive"):
        privatised(update(), clip, noise)
