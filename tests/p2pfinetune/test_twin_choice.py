"""What `--twin auto` becomes: a rule over values, and a measurement that looks at no clock of its own."""

from typing import Any

import numpy as np
import pytest
import torch

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round import twin_times as module
from p2pfinetune.round.twin_choice import (
    AS_BEGUN,
    BEGUN_WITHOUT,
    GIVEN_UP,
    NO_ROOM,
    Times,
    TwinChoice,
    settled,
    worth_it,
)
from p2pfinetune.round.twin_times import PAIRS, twin_times

OPTIONS = LearnerOptions(spec=AdapterSpec(rank=2), training=TrainingOptions(batch_size=4, accumulation=3, context=12))


@pytest.fixture(scope="module")
def text() -> Corpus:
    dice = np.random.default_rng(0)
    splits = [TokenSplit.of([dice.integers(1, 320, 60).astype(np.uint16) for _ in range(4)]) for _ in range(4)]
    return Corpus(*splits, report=None, fingerprint="")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "begun", "trains", "why"),
    [
        ("on", None, True, ""),
        ("on", "with a twin", True, ""),
        ("on", "alone so far", True, ""),
        ("off", None, False, ""),
        ("off", "without a twin", False, ""),
        ("off", "with a twin", False, GIVEN_UP),
        ("auto", "with a twin", True, AS_BEGUN),
        ("auto", "alone so far", False, AS_BEGUN),
        ("auto", "without a twin", False, BEGUN_WITHOUT),
    ],
)
def test_what_was_begun_or_asked_for_decides(asked: Any, begun: Any, trains: bool, why: str) -> None:
    assert settled(asked, begun) == TwinChoice(trains, why)


def test_a_twin_that_is_asked_for_too_late_is_refused_with_the_way_out() -> None:
    with pytest.raises(OptionError, match="begins after a merge") as caught:
        settled("on", "without a twin")
    assert "new --home" in caught.value.hint


def test_where_nothing_was_begun_a_measurement_decides() -> None:
    assert settled("auto", None) is None


@pytest.mark.parametrize(
    ("times", "trains", "why"),
    [
        ([(1.0, 1.2)], True, "a round with one neighbour takes 20 % longer"),
        ([(1.0, 1.21)], False, "a round with one neighbour would take 21 % longer"),
        ([(1.0, 0.9)], True, "a round with one neighbour takes 0 % longer"),
        ([(1.0, 1.1), (1.0, 9.0), (1.0, 1.1)], True, "a round with one neighbour takes 10 % longer"),
        ([], False, NO_ROOM),
    ],
)
def test_a_twin_trains_if_most_rounds_take_at_most_a_fifth_longer_with_it(times: Times, trains: bool, why: str) -> None:
    assert worth_it(times) == TwinChoice(trains, why)


class Clock:
    """Every look is a second later."""

    def __init__(self, seconds: float) -> None:
        self.now, self._seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self._seconds
        return self.now


def test_a_measured_round_is_its_steps_and_what_the_guard_measures(tiny_base: Base, text: Corpus) -> None:
    pairs = twin_times(tiny_base, text, OPTIONS, 10, Clock(0.01))

    # a whole step is three batches, one of which was measured; all splits are as long as what was measured of one
    assert pairs == [pytest.approx((0.01 * (10 * 3 + 2 + 4), 0.01 * (10 * 3 + 3 + 4)), rel=0.02)] * PAIRS


def test_of_a_large_model_one_step_of_each_is_measured(tiny_base: Base, text: Corpus) -> None:
    assert len(twin_times(tiny_base, text, OPTIONS, 10, Clock(module.BUDGET_SECONDS))) == 1


def test_who_has_no_memory_for_two_has_no_twin(tiny_base: Base, text: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, "train_together", full)

    assert twin_times(tiny_base, text, OPTIONS, 10, Clock(0.01)) == []


def test_measuring_draws_no_dice(tiny_base: Base, text: Corpus) -> None:
    torch.manual_seed(0)
    drawn = int(torch.randint(1_000_000, ()))

    torch.manual_seed(0)
    twin_times(tiny_base, text, OPTIONS, 1, Clock(0.01))

    assert int(torch.randint(1_000_000, ())) == drawn
