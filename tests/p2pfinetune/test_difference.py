"""What may be said of a difference between two models on the same text."""

import math

import numpy as np
import pytest

from p2pfinetune.scoring.difference import (
    Difference,
    difference,
    mean_difference,
    student_975,
    worst_tenth,
)
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.scoring.paired import standard_error, token_mean


def evaluation(losses: list[float], documents: list[int], tokens: list[int] | None = None) -> Evaluation:
    per_window = np.array(losses)
    sizes = np.array(tokens or [10] * len(losses), np.int64)
    return Evaluation(token_mean(per_window, sizes), int(sizes.sum()), per_window, sizes, np.array(documents, np.int64))


def test_a_difference_is_paired_and_weighs_tokens() -> None:
    one = evaluation([1.0, 5.0], [0, 1], [30, 10])
    other = evaluation([1.2, 5.0], [0, 1], [30, 10])

    assert difference(one, other).nats == pytest.approx(-0.15)


def test_windows_of_one_document_count_once() -> None:
    dice = np.random.default_rng(3)
    by_document = dice.normal(size=20)
    alone = evaluation(list(by_document), list(range(20)))
    repeated = evaluation(list(by_document.repeat(8)), list(np.arange(20).repeat(8)))
    zero, zeros = evaluation([0.0] * 20, list(range(20))), evaluation([0.0] * 160, list(np.arange(20).repeat(8)))

    once, often = difference(alone, zero), difference(repeated, zeros)

    assert often.standard_error == pytest.approx(once.standard_error)
    assert often.interval == pytest.approx(once.interval)


def test_with_a_window_a_document_the_standard_error_is_that_of_the_guard() -> None:
    dice = np.random.default_rng(4)
    losses, tokens = list(dice.normal(size=12)), [int(n) for n in dice.integers(5, 50, 12)]

    found = difference(evaluation(losses, list(range(12)), tokens), evaluation([0.0] * 12, list(range(12)), tokens))

    assert found.standard_error == pytest.approx(standard_error(np.array(losses), np.array(tokens)))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(400):
        dice = np.random.default_rng(seed)
        of_document = dice.normal(0.3, 1.0, 15).repeat(6)
        losses = of_document + dice.normal(0.0, 0.5, 90)
        documents = list(np.arange(15).repeat(6))
        low, high = difference(evaluation(list(losses), documents), evaluation([0.0] * 90, documents)).interval
        covered += low <= 0.3 <= high

    assert 0.92 <= covered / 400 <= 0.98


def test_one_document_shows_nothing_and_nobody_says_it_does() -> None:
    found = difference(evaluation([1.0, 1.1], [0, 0]), evaluation([3.0, 3.1], [0, 0]))

    assert not found.is_seen
    assert found.interval == (-math.inf, math.inf)


def test_equal_models_have_no_difference_that_can_be_seen() -> None:
    same = evaluation([1.0, 2.0, 3.0], [0, 1, 2])

    found = difference(same, same)

    assert (found.nats, found.interval, found.is_seen) == (0.0, (0.0, 0.0), False)


def test_documents_of_one_name_are_one_text() -> None:
    losses, zeros = evaluation([1.0, 3.0, 2.0], [0, 1, 2]), evaluation([0.0] * 3, [0, 1, 2])

    named = difference(losses, zeros, names=["a", "b", "a"])

    assert named.texts == 2
    assert named.standard_error != difference(losses, zeros).standard_error


def test_the_mean_over_peers_knows_which_text_they_share() -> None:
    each = Difference(0.1, 100, {"x": 0.02, "y": -0.02})
    apart = Difference(0.3, 100, {"v": 0.02, "w": -0.02})

    shared, separate = mean_difference([each, each]), mean_difference([each, apart])

    assert shared.standard_error == pytest.approx(each.standard_error)
    assert separate.nats == pytest.approx(0.2)
    assert separate.standard_error == pytest.approx(0.02 * math.sqrt(2))
    assert (separate.tokens, separate.texts) == (200, 4)


@pytest.mark.parametrize("texts", [2, 4])
def test_the_interval_of_the_mean_over_peers_of_few_texts_covers_the_truth(texts: int) -> None:
    dice, covered = np.random.default_rng(7), 0
    for _ in range(400):
        found = []
        for peer in range(6):
            losses = list(peer + dice.normal(0.0, 0.1, texts))
            names = [f"{peer} {text}" for text in range(texts)]
            documents = list(range(texts))
            found.append(difference(evaluation(losses, documents), evaluation([0.0] * texts, documents), names))
        low, high = mean_difference(found).interval
        covered += low <= 2.5 <= high

    assert covered / 400 >= 0.92


def test_the_mean_over_peers_shows_nothing_where_one_of_them_was_measured_on_a_single_text() -> None:
    many = Difference(-0.1, 100, {"x": 0.001, "y": -0.001})
    single = Difference(-0.2, 100, {"z": 0.0})

    assert not mean_difference([many, single]).is_seen
    assert not mean_difference([single, Difference(-0.2, 100, {"w": 0.0})]).is_seen
    assert not mean_difference([single, single]).is_seen


@pytest.mark.parametrize(
    ("degrees", "tabled"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980)]
)
def test_students_t_is_that_of_the_tables(degrees: int, tabled: float) -> None:
    assert student_975(degrees) == pytest.approx(tabled, rel=5e-3)


def test_the_worst_tenth_is_of_at_least_one_and_is_the_largest() -> None:
    assert worst_tenth([-0.2, 0.1, -0.3]) == 0.1
    assert worst_tenth([float(n) for n in range(20)]) == pytest.approx(18.5)
    with pytest.raises(ValueError, match="nobody"):
        worst_tenth([])
