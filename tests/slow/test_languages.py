"""Trust on real text: French, German and Italian sentences, two peers each."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict
from pathlib import Path

import pytest

SEEDS = (10, 11, 12)  # defaults were chosen on seed 0
MEASURED = ("validation", "prediction-similarity")
BASELINES = ("uniform", "local")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(data, nano_folder):
    from benchmarks.languages import Plan, run_all, table

    found = run_all(Plan(data=data, model=str(nano_folder)), SEEDS, workers=os.cpu_count() or 1)
    print("\n" + table(found))  # noqa: T201  # this table is what the test is run for
    if out := os.environ.get("PEERD_LANGUAGES_JSON"):
        Path(out).write_text(json.dumps([asdict(result) for result in found], indent=1))
    return found


@pytest.mark.parametrize("baseline", BASELINES)
def test_validation_beats_the_blind_schemes_on_the_test_split_for_every_seed(results, baseline):
    from benchmarks.languages import differences

    gains = differences(results, "validation", baseline)

    assert len(gains) == len(SEEDS)
    assert min(gains) > 0, f"against {baseline}, nats a token by seed: {gains}"


@pytest.mark.parametrize("baseline", BASELINES)
def test_prediction_similarity_does_no_harm(results, baseline):
    """It does not beat them here: see docs/LOG.md, 2026-11-21, for the figures and the reason."""
    from benchmarks.languages import differences

    gains = differences(results, "prediction-similarity", baseline)

    assert statistics.fmean(gains) > -0.01, f"against {baseline}, nats a token by seed: {gains}"


@pytest.mark.parametrize("scheme", MEASURED)
def test_most_of_what_a_peer_gives_to_others_goes_to_its_language(results, scheme):
    weights = [w for r in results if r.scheme == scheme for w in r.weight_on_own_language.values()]

    assert statistics.fmean(weights) > 0.5  # one of five others speaks the own language: by chance 0.2


def test_every_personal_model_is_better_than_the_base(results):
    assert all(result.personal[peer] < result.base[peer] for result in results for peer in result.base)
