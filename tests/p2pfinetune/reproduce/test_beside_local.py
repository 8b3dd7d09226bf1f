"""Whether a peer is better or worse than alone, by more than the text it was measured on would move."""

import numpy as np
import pytest

from p2pfinetune.compare.beside_local import clearly, paired
from p2pfinetune.scoring.difference import difference
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.simulation.shard import by_document


def evaluation(windows: list[tuple[float, int, int]]) -> Evaluation:
    losses, tokens, documents = (np.array(column) for column in zip(*windows, strict=True))
    return Evaluation(float(losses @ tokens / tokens.sum()), int(tokens.sum()), losses, tokens, documents)


def test_sums_by_document_say_the_same_as_the_windows_that_they_are_made_of() -> None:
    dice = np.random.default_rng(5)
    kinds = [(int(dice.integers(1, 60)), int(i // 3)) for i in range(40)]
    one, other = (evaluation([(dice.normal(3.0), *kind) for kind in kinds]) for _ in range(2))

    whole = difference(one, other)
    found = paired(by_document(one), by_document(other))

    assert found is not None
    assert (found.nats, found.tokens, found.texts) == pytest.approx((whole.nats, whole.tokens, whole.texts))
    assert found.interval == pytest.approx(whole.interval)


def test_a_difference_counts_only_beyond_its_interval() -> None:
    local = [(30.0, 10), (50.0, 10), (40.0, 10), (45.0, 10)]
    lower = [(nats - 1.0 - 0.01 * i, tokens) for i, (nats, tokens) in enumerate(local)]
    higher = [(nats + 1.0 + 0.01 * i, tokens) for i, (nats, tokens) in enumerate(local)]
    noisy = [(nats + shift, tokens) for (nats, tokens), shift in zip(local, (9.0, -9.1, 9.2, -8.0), strict=True)]

    assert clearly([(lower, local), (higher, local), (noisy, local), (higher, local)]) == (1, 2, 4)


def test_other_documents_and_single_ones_are_not_compared() -> None:
    assert paired([(1.0, 3), (2.0, 4)], [(1.0, 3), (2.0, 5)]) is None
    assert paired([(1.0, 3)], [(1.0, 3)]) is None
    assert clearly([([(1.0, 3)], [(1.0, 3)])]) == (0, 0, 0)
