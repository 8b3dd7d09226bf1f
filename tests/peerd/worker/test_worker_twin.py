"""Whether a twin trains in the worker: measured once, and then what was begun decides; and what is served beside it."""

from __future__ import annotations

import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.round import twin_times
from p2pfinetune.round.twin_choice import AS_BEGUN, BEGUN_WITHOUT, GIVEN_UP
from peerd.worker import messages
from tests.peerd.worker.test_worker_jobs import Bench, digest, tiny_model

__all__ = ["tiny_model"]


@pytest.fixture
def longer(monkeypatch):
    """A function that says by how much a twin makes a round longer; it counts measurements."""

    def set_up(part: float) -> list[int]:
        taken: list[int] = []

        def measured(*_: object) -> list[tuple[float, float]]:
            taken.append(1)
            return [(1.0, 1.0 + part)]

        monkeypatch.setattr(twin_times, "twin_times", measured)
        return taken

    return set_up


def shared(folder, model) -> str:
    """What another peer publishes."""
    other = Bench(folder, model, seed=5, twin="off")
    other.open()
    other.train(8)
    return other.do(messages.Encode, codec="bf16").path


@pytest.mark.parametrize(("part", "twin"), [(0.1, "on"), (0.5, "off")])
def test_a_twin_trains_by_default_if_that_costs_little_and_a_restart_does_not_ask_again(
    longer, tmp_path, tiny_model, part: float, twin: str
) -> None:
    longer(part)
    through, restarted = (Bench(tmp_path / name, tiny_model, trust="uniform", twin="auto") for name in "ab")
    update = shared(tmp_path / "other", tiny_model)
    for each in (through, restarted):
        opened = each.open()
        assert (opened.twin, opened.twin_why.endswith(f"{100 * part:.0f} % longer")) == (twin, True)
        each.train()
    end = restarted.merge(update)
    assert (end.accepted, end.figures.guard_twin is not None) == (True, twin == "on")
    through.merge(update)
    taken = longer(0.6 - part)  # now it would be the other way round

    again = Bench(tmp_path / "b", tiny_model, trust="uniform", twin="auto")
    opened = again.open(end.checkpoint, end.best, end.best_guard)

    assert (opened.twin, opened.twin_why, taken) == (twin, AS_BEGUN if twin == "on" else BEGUN_WITHOUT, [])
    assert digest(again.train().checkpoint) == digest(through.train().checkpoint)
    assert digest(again.merge(update).checkpoint) == digest(through.merge(update).checkpoint)


def test_on_this_very_machine_auto_becomes_one_of_the_two_and_says_why(tmp_path, tiny_model) -> None:
    opened = Bench(tmp_path / "a", tiny_model, twin="auto").open()

    assert opened.twin in {"on", "off"}
    assert "% longer" in opened.twin_why


def test_a_home_that_merged_without_a_twin_goes_on_without_and_refuses_to_begin_one(
    longer, tmp_path, tiny_model
) -> None:
    bench = Bench(tmp_path / "a", tiny_model, trust="uniform", twin="off")
    bench.open()
    alone = bench.train().checkpoint
    merged = bench.merge(shared(tmp_path / "other", tiny_model)).checkpoint
    taken = longer(0.0)

    def opened(twin: str, checkpoint: str) -> messages.Opened:
        return Bench(tmp_path / "a", tiny_model, trust="uniform", twin=twin).open(checkpoint)

    found = opened("auto", merged)
    assert (found.restored, found.twin, found.twin_why, taken) == (True, "off", BEGUN_WITHOUT, [])
    with pytest.raises(OptionError, match="begins after a merge"):
        opened("on", merged)
    assert opened("on", alone).twin == "on"  # nothing was merged yet


def test_a_twin_that_is_given_up_is_said(tmp_path, tiny_model) -> None:
    bench = Bench(tmp_path / "a", tiny_model, twin="on")
    bench.open()

    opened = Bench(tmp_path / "a", tiny_model, twin="off").open(bench.train().checkpoint)

    assert (opened.twin, opened.twin_why) == ("off", GIVEN_UP)


def test_what_is_served_is_generated_exported_and_tested_under_its_name(tmp_path, tiny_model) -> None:
    bench = Bench(
        tmp_path / "a", tiny_model, trust="uniform", twin="on", lr=0.3, credit=9.0, tolerance=9.0, max_share=1.0
    )
    bench.open()
    bench.train(2)
    assert bench.generate().served_by == bench.do(messages.Export, folder=str(tmp_path / "e"), which="served").which
    astray = bench.merge(shared(tmp_path / "other", tiny_model))

    found, exported = bench.generate(), bench.do(messages.Export, folder=str(tmp_path / "f"), which="served")
    bench.do(messages.Export, folder=str(tmp_path / "g"), which="local_best")
    served, twin = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "fg")

    assert astray.figures.guard_personal > astray.figures.guard_twin
    assert (astray.served, found.served_by, exported.which) == ("best", "best", "best")
    assert found.served != found.personal
    assert served == twin  # parted only now: what merging gave at its best is what the twin still is
    assert bench.do(messages.EvaluateTest).served == pytest.approx(bench.do(messages.EvaluateTest).twin)
