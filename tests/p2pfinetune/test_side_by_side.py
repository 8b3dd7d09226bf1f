"""Several models on one text, against plain arithmetic; and the pieces in which a text is measured are the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pfinetune.round.figures import LossMargin
from p2pfinetune.round.side_by_side import side_by_side
from p2pfinetune.scoring.difference import student_975
from p2pfinetune.scoring.evaluate import Batch, Evaluation, Measure, joined

TOKENS, DOCUMENTS = np.array([10, 30, 20]), np.array([0, 1, 2])


def evaluation(*losses: float) -> Evaluation:
    per_window = np.array(losses)
    mean = float(per_window @ TOKENS) / 60
    return Evaluation(mean, 60, per_window, TOKENS, DOCUMENTS)


def test_every_model_stands_beside_the_base_and_beside_the_better_twin() -> None:
    found = side_by_side(
        {
            "base": evaluation(3.0, 3.0, 3.0),
            "own": evaluation(2.0, 2.5, 2.2),
            "local": evaluation(2.1, 2.4, 2.2),
            "local_best": evaluation(2.1, 2.6, 2.2),
        }
    )

    assert found.keys() == {"base", "own", "twin"}
    assert found["twin"].loss == pytest.approx((2.1 * 10 + 2.4 * 30 + 2.2 * 20) / 60)
    assert found["own"].against_base is not None
    assert found["own"].against_base.nats == pytest.approx((-1.0 * 10 - 0.5 * 30 - 0.8 * 20) / 60)
    assert found["own"].against_twin is not None
    assert found["own"].against_twin.nats == pytest.approx((-0.1 * 10 + 0.1 * 30) / 60)
    assert (found["base"].against_base, found["twin"].against_twin) == (None, None)


def test_the_interval_of_a_loss_is_that_of_a_mean_over_documents() -> None:
    losses = np.array([2.0, 2.5, 2.2])
    shares = TOKENS / 60
    deviations = shares * (losses - losses @ shares)
    slowly = student_975(2) * math.sqrt(3 / 2 * float(deviations @ deviations))

    assert side_by_side({"base": evaluation(*losses)})["base"].within == pytest.approx(slowly)


def test_what_is_no_number_is_told_as_diverged_and_compared_with_nothing() -> None:
    found = side_by_side({"base": evaluation(3.0, 3.0, 3.0), "own": evaluation(2.0, math.inf, 2.2)})

    assert (found["own"].loss, found["own"].within, found["own"].against_base) == (50.0, None, None)
    assert side_by_side({"base": evaluation(1.0, 1.0, 1.0), "own": evaluation(1.0, 1.0, 1.0)})[
        "own"
    ].against_base == LossMargin(nats=0.0, within=0.0)


def test_pieces_together_are_the_whole() -> None:
    empty: tuple[Batch, ...] = ()
    whole = evaluation(2.0, 2.5, 2.2)
    first = Evaluation(2.375, 40, whole.per_window[:2], TOKENS[:2], DOCUMENTS[:2])
    second = Evaluation(2.2, 20, whole.per_window[2:], TOKENS[2:], np.array([2]))

    found = joined(Measure(empty, TOKENS, DOCUMENTS), [first, second])

    assert found.loss == pytest.approx(whole.loss)
    np.testing.assert_allclose(found.per_window, whole.per_window)
