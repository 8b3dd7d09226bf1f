"""What `auto` becomes in the worker: measured once, and then what was learnt so far decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from p2pfinetune.model import processor
from p2pfinetune.model.precision import NO_UNITS
from p2pfinetune.training import step_times
from tests.peerd.worker.test_worker_jobs import Bench, digest, tiny_model

__all__ = ["tiny_model"]


@pytest.fixture
def offers(monkeypatch):
    """A function that says what the machine lacks, and how long steps in fp32 and bf16 take; it counts measurements."""

    def set_up(missing: str = "", half: float = 0.5) -> list[int]:
        taken: list[int] = []

        def measured(*_: object) -> list[tuple[float, float]]:
            taken.append(1)
            return [(1.0, half)]

        monkeypatch.setattr(processor, "missing", lambda _: missing)
        monkeypatch.setattr(step_times, "step_times", measured)
        return taken

    return set_up


Offers = Callable[..., list[int]]


def auto(folder, model) -> Bench:
    return Bench(folder, model, precision="auto")


@pytest.mark.parametrize(("half", "precision"), [(0.5, "bf16"), (0.9, "fp32")])
def test_with_units_a_measured_step_decides_and_the_answer_says_so(
    offers: Offers, tmp_path, tiny_model, half: float, precision: str
) -> None:
    offers(half=half)

    opened = auto(tmp_path / "a", tiny_model).open()

    assert opened.precision == precision
    assert opened.precision_why == f"a step in bf16 takes {half:.2f} of the time of one in fp32"


def test_without_units_nothing_is_measured_and_training_is_in_fp32(offers: Offers, tmp_path, tiny_model) -> None:
    taken = offers(missing=NO_UNITS)

    opened = auto(tmp_path / "a", tiny_model).open()

    assert (opened.precision, opened.precision_why, taken) == ("fp32", NO_UNITS, [])


@pytest.mark.parametrize("half", [0.5, 2.0])
def test_a_restart_goes_on_in_what_it_trained_in_to_the_bit_and_measures_nothing(
    offers: Offers, tmp_path, tiny_model, half: float
) -> None:
    offers(half=half)
    through, restarted = (auto(tmp_path / name, tiny_model) for name in "ab")
    for each in (through, restarted):
        first = each.open().precision
        each.train()
    end = restarted.merge()
    through.merge()
    taken = offers(half=1.0 / half)  # now the other one would be chosen

    again = auto(tmp_path / "b", tiny_model)
    opened = again.open(end.checkpoint, end.best, end.best_guard)

    assert (opened.precision, opened.precision_why, taken) == (first, "as it was trained so far", [])
    assert digest(again.train().checkpoint) == digest(through.train().checkpoint)


@pytest.mark.parametrize(
    ("asked", "missing", "precision", "why"),
    [
        ("auto", NO_UNITS, "fp32", f"so far it was trained in bf16, but {NO_UNITS}"),
        ("fp32", "", "fp32", "so far it was trained in bf16"),
        ("bf16", "", "bf16", ""),
    ],
)
def test_a_home_that_goes_on_in_other_numbers_says_so(
    offers: Offers, tmp_path, tiny_model, asked: str, missing: str, precision: str, why: str
) -> None:
    offers()
    before = auto(tmp_path / "a", tiny_model)
    before.open()
    end = before.train()
    offers(missing=missing)

    opened = Bench(tmp_path / "a", tiny_model, precision=asked).open(end.checkpoint)

    assert opened.restored
    assert (opened.precision, opened.precision_why) == (precision, why)


def test_on_this_very_machine_auto_becomes_one_of_the_two_and_says_why(tmp_path, tiny_model) -> None:
    opened = auto(tmp_path / "a", tiny_model).open()

    assert opened.precision in {"fp32", "bf16"}
    assert opened.precision_why
