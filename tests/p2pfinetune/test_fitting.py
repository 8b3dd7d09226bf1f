"""What is done so that a model fits: the mildest measure, in order, told, kept, and refused with the ways out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from p2pfinetune import nano
from p2pfinetune.errors import ModelError
from p2pfinetune.model.fitting import KNOWN, AskedOfMemory, fitting, ladder, least, least_for, memory_for, refusal
from p2pfinetune.model.memory import GIB, MemoryPlan, Setting, needed

QWEN = KNOWN["Qwen/Qwen2.5-0.5B-Instruct"]
SETTING = Setting(neighbours=4)
EXACT = AskedOfMemory(quantize="none")
MOST = needed(QWEN, SETTING, MemoryPlan()).total
LEAST = least(QWEN, SETTING, EXACT).total


def test_with_room_enough_nothing_is_done_and_the_sum_is_said():
    found = fitting(QWEN, SETTING, EXACT, MOST)

    assert (found.plan, found.why) == (MemoryPlan(), "")
    assert found.said.startswith(f"needs {MOST / GIB:.1f} GiB of {MOST / GIB:.1f} (activations ")


def test_measures_are_taken_in_their_order_as_memory_gets_less():
    rungs = list(ladder(SETTING, AskedOfMemory()))
    lowest = least(QWEN, SETTING, AskedOfMemory()).total
    rooms = range(MOST, lowest, (lowest - MOST) // 60)

    places = [rungs.index(fitting(QWEN, SETTING, AskedOfMemory(), room).plan) for room in rooms]

    assert places == sorted(places)
    assert places[0] == 0
    assert {rungs[place].quantize for place in places} >= {"none", "8bit"}
    assert {rungs[place].positions for place in places} >= {0, 1024, 512}


def test_what_changes_no_result_comes_before_what_changes_the_base():
    rungs = list(ladder(SETTING, AskedOfMemory()))

    assert rungs[0] == MemoryPlan()
    assert [rung.quantize for rung in rungs] == sorted((r.quantize for r in rungs), key=["none", "8bit", "4bit"].index)
    assert not any(rung.checkpointing for rung in rungs[: len(rungs) // 6])


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        (AskedOfMemory(checkpointing="off"), lambda plan: not plan.checkpointing),
        (AskedOfMemory(checkpointing="on"), lambda plan: plan.checkpointing),
        (AskedOfMemory(quantize="none"), lambda plan: plan.quantize == "none"),
        (AskedOfMemory(quantize="4bit"), lambda plan: plan.quantize == "4bit"),
        (EXACT, lambda plan: plan.quantize == "none"),
    ],
)
def test_what_a_person_said_or_what_is_not_installed_is_never_taken(asked, holds):
    rungs = list(ladder(SETTING, asked))

    assert rungs
    assert all(holds(rung) for rung in rungs)


def test_what_was_trained_by_stays_while_it_fits_however_much_memory_there_is_now():
    before = MemoryPlan(positions=512, checkpointing=True)

    kept = fitting(QWEN, SETTING, EXACT, 2 * MOST, before=before)
    with pytest.raises(ModelError):
        fitting(QWEN, SETTING, EXACT, LEAST // 2, before=before)

    assert (kept.plan, kept.why) == (before, "passes of 512 positions, checkpointing, as so far")


def test_a_plan_that_a_worker_died_of_is_followed_by_a_lighter_one_until_there_is_none():
    plan, seen = None, []
    while not (found := fitting(QWEN, SETTING, EXACT, MOST, before=plan, lighter_than=plan)).is_last:
        assert found.plan not in seen
        plan = found.plan
        seen.append(plan)

    assert len(seen) > 1
    sums = [needed(QWEN, SETTING, one) for one in [*seen, found.plan]]
    assert all(lighter.is_less_than(heavier) for heavier, lighter in pairwise(sums))
    assert MemoryPlan(positions=256, checkpointing=True) == found.plan
    assert found.why.endswith("since a worker ran out of memory")
    assert fitting(QWEN, SETTING, EXACT, MOST, before=found.plan, lighter_than=found.plan).plan == found.plan


def test_of_a_model_that_cannot_be_computed_nothing_is_refused_and_deaths_are_followed_all_the_same():
    first = fitting(None, SETTING, EXACT, 1)
    second = fitting(None, SETTING, EXACT, 1, lighter_than=first.plan)

    assert first.plan == MemoryPlan()
    assert second.plan.positions == 1024
    assert "cannot be told" in first.said


def test_a_refusal_says_the_sum_and_each_way_out_with_what_it_would_need():
    large = KNOWN["Qwen/Qwen2.5-1.5B-Instruct"]
    setting = Setting(neighbours=16)
    available = least(large, setting, EXACT).total - 1

    error = refusal(large, setting, EXACT, available)

    assert f" GiB of {available / GIB:.1f} (weights 2.9, " in str(error)
    for way in (
        "--max-neighbours 4 (needs ",
        "--quantize 8bit (needs ",
        "--model Qwen/Qwen2.5-0.5B-Instruct (needs ",
        "--worker-memory ",
    ):
        assert way in error.hint
    assert "--checkpointing" not in error.hint


def test_a_refusal_names_what_the_person_ruled_out():
    said = replace(EXACT, checkpointing="off", quantize="none")
    room = least(QWEN, SETTING, EXACT).total

    hint = refusal(QWEN, replace(SETTING, context=512), said, room).hint

    assert "--context 128 (needs " in hint


def test_a_list_of_models_can_say_what_each_would_take(tmp_path: Path):
    whole, lowest = memory_for(nano.folder()), least_for(nano.folder())

    assert whole is not None
    assert lowest is not None
    assert 0 < lowest.total < whole.total < GIB


def test_training_without_gradients_is_a_way_out_if_activations_are_what_does_not_fit():
    setting = replace(SETTING, neighbours=1, context=2048)
    without = replace(setting, has_gradients=False, moments=0)
    room = least(QWEN, without, EXACT).total

    hint = refusal(QWEN, setting, EXACT, room).hint

    assert "--trainer mezo (needs " in hint
    assert "--trainer mezo" not in refusal(QWEN, without, EXACT, room // 2).hint
    assert needed(QWEN, without, MemoryPlan()).total < 0.6 * needed(QWEN, setting, MemoryPlan()).total
