"""Before a model is loaded the worker knows whether it fits, says so, and keeps to what it chose."""

from __future__ import annotations

import msgspec
import pytest

from p2pfinetune.errors import ModelError
from p2pfinetune.model import base
from p2pfinetune.model.memory import MIB, MemoryPlan, Setting, needed
from p2pfinetune.model.shape import shape_of
from peerd.errors import UsageError
from peerd.worker import fits, ram_limit
from tests.peerd.worker.test_worker_jobs import Bench, digest, tiny_model

__all__ = ["tiny_model"]


@pytest.fixture
def room(monkeypatch):
    """Sets how many bytes there are."""

    def sets(size: int) -> None:
        monkeypatch.setattr(fits, "room_on_cpu", lambda _: size)

    return sets


def needs_of(bench: Bench, **plan):
    shape = shape_of(bench.config_folder)
    return needed(shape, fits.setting_of(bench.config, "cpu", "fp32", shape), MemoryPlan(**plan)).total


@pytest.fixture
def bench(tmp_path, tiny_model):
    """Its steps are long, so that a shorter pass takes less."""
    made = Bench(tmp_path / "a", tiny_model, batch_size=256, max_neighbours=1)
    made.config_folder = tiny_model
    return made


def planned(bench: Bench):
    return [note.planned for note in bench.notes if note.planned is not None]


def test_the_sum_and_what_was_done_are_told_before_anything_is_loaded(bench, room, monkeypatch):
    room(needs_of(bench) - 1)

    def load_base(*_: object, **__: object) -> None:
        raise ModelError(f"loading, after {len(planned(bench))} words")

    monkeypatch.setattr(base, "load_base", load_base)
    with pytest.raises(ModelError, match="loading, after 1 words"):
        bench.open()

    (told,) = planned(bench)
    assert told.plan == MemoryPlan(positions=1024)
    assert told.memory.needed_bytes == needs_of(bench, positions=1024)
    assert told.memory.available_bytes == needs_of(bench) - 1
    assert told.memory.measures == "passes of 1024 positions, so that it fits"
    assert sum(told.memory.parts.values()) == told.memory.needed_bytes


def test_large_blocks_are_mapped_by_themselves_only_if_memory_is_short(bench, room, monkeypatch):
    asked = []
    monkeypatch.setattr(ram_limit, "map_large_blocks", lambda: asked.append(len(planned(bench))))
    for size in (needs_of(bench), needs_of(bench) - 1):
        room(size)
        bench.open()

    assert asked == [2]


def test_a_model_that_does_not_fit_is_refused_with_the_ways_out_and_nothing_is_loaded(bench, room, monkeypatch):
    room(fits.LEAST + MIB)
    monkeypatch.setattr(base, "load_base", None)

    with pytest.raises(ModelError, match=r"this model does not fit: it needs 0\.\d GiB of 0\.6") as refused:
        bench.open()

    assert "--worker-memory " in refused.value.hint
    assert planned(bench) == []


def test_a_limit_below_the_libraries_is_refused_before_they_are_imported(bench, tmp_path, tiny_model):
    small = Bench(tmp_path / "b", tiny_model, worker_memory=100)

    with pytest.raises(UsageError, match="training may take 100 MiB, and its libraries alone need 600"):
        small.open()


def test_a_run_that_goes_on_keeps_its_plan_and_its_bits_however_much_memory_there_is_now(
    tmp_path, tiny_model, bench, room
):
    room(needs_of(bench) - 1)
    through, restarted = (Bench(tmp_path / name, tiny_model, batch_size=256, max_neighbours=1) for name in "bc")
    for each in (through, restarted):
        each.open()
        each.train(1)
    end = restarted.merge()
    through.merge()
    room(1 << 40)

    again = Bench(tmp_path / "c", tiny_model, batch_size=256, max_neighbours=1)
    again.open(end.checkpoint, end.best, end.best_guard)

    (told,) = planned(again)
    assert (told.plan.positions, told.memory.measures) == (1024, "passes of 1024 positions, as so far")
    assert digest(again.train(1).checkpoint) == digest(through.train(1).checkpoint)


def test_what_a_person_said_of_checkpointing_is_done_and_a_twin_that_may_train_is_counted(tmp_path, tiny_model):
    on, off = (Bench(tmp_path / said, tiny_model, checkpointing=said) for said in ("on", "off"))
    for bench in (on, off):
        bench.open()

    assert planned(on)[0].plan.checkpointing
    assert not planned(off)[0].plan.checkpointing
    alone = fits.setting_of(on.config, "cpu", "fp32", None)
    assert alone == Setting(context=16, sequences=2)
    assert not alone.has_twin
    gathered = {
        by: fits.setting_of(msgspec.structs.replace(on.config, trainer=by), "cpu", "fp32", None)
        for by in ("adamw", "sgd", "mezo")
    }
    assert [(one.moments, one.has_gradients) for one in gathered.values()] == [(2, True), (1, True), (0, False)]
