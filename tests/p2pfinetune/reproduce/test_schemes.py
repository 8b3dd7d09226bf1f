"""Names of a comparison reach distinct simulations: the trap that the paper's released code fell into."""

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.compare import plan as plans
from p2pfinetune.compare import sweep as sweeps
from p2pfinetune.compare.plan import ABLATIONS, Plan, folder_of, paper, small, tasks
from p2pfinetune.compare.schemes import GROUPS, SCHEMES, applied, chosen
from p2pfinetune.errors import LearningError, OptionError
from p2pfinetune.simulation.config import SettingText, SimulationConfig
from p2pfinetune.simulation.run import SimulationProgress
from p2pfinetune.trust import SCHEMES as TRUST

SETTING = SettingText(name="languages")


def plan(**changes: Any) -> Plan:
    return Plan(**{"config": small(SETTING, "nano"), "seeds": (0, 1), "schemes": ("local", "mixture"), **changes})


def test_every_name_is_a_config_of_its_own() -> None:
    base = msgspec.structs.replace(small(SETTING, "nano"), trust="first-order", trust_options={"temperature": 9.0})

    for one, other in itertools.combinations(SCHEMES, 2):
        assert applied(base, one) != applied(base, other), (one, other)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_one_that_trust_knows_with_its_options(name: str) -> None:
    config = applied(small(SETTING, "nano"), name)

    assert TRUST.make(config.trust, config.trust_options)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name.endswith("-faithful")])
def test_a_faithful_scheme_draws_a_per_client_and_takes_every_merge(name: str) -> None:
    config = applied(small(SETTING, "nano"), name)

    assert not config.adapter.shared_start
    assert not config.guarded
    assert config.trust_options.get("faithful", True) is True


def test_what_the_paper_compares_shares_its_start_and_is_not_guarded() -> None:
    for name in GROUPS["paper"]:
        config = applied(small(SETTING, "nano"), name)
        assert config.adapter.shared_start
        assert not config.guarded


def test_the_default_is_what_the_daemon_does() -> None:
    from peerd.config import Config

    config = applied(small(SETTING, "nano"), "default")

    assert config.guarded
    assert (config.trust, config.trust_options, config.merge) == (Config().trust, {}, Config().merge)


def test_fine_tuning_after_averaging_stops_merging_at_its_part() -> None:
    until = [applied(small(SETTING, "nano"), f"fedavg-then-local-{part}").merge_until for part in (50, 75, 90)]

    assert until == [0.5, 0.75, 0.9]


def test_groups_are_opened_and_nothing_is_run_twice() -> None:
    assert chosen(("local", "paper")) == GROUPS["paper"]
    assert set(chosen(("all",))) == set(SCHEMES)


def test_an_unknown_scheme_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(OptionError, match="no scheme 'dynamic'"):
        chosen(("dynamic",))


def test_the_paper_merges_seventeen_times_in_five_hundred_steps_and_first_after_a_hundred() -> None:
    config = paper(SETTING, "gpt2")

    merging = [number for number in range(1, config.rounds + 1) if config.merges_in(number)]
    assert config.rounds * config.steps == 500
    assert len(merging) == 17
    assert merging[0] * config.steps == 100
    assert config.training.batch_size * config.training.accumulation * config.training.context == 102_400
    assert config.adapter.alpha / config.adapter.rank == 8


def test_tasks_are_seed_by_seed_in_folders_of_their_own() -> None:
    found = tasks(plan())

    assert [str(task.folder) for task in found] == [
        f"languages-specific/nano/seed-{seed}/{scheme}" for seed in (0, 1) for scheme in ("local", "mixture")
    ]
    assert [task.config.seed for task in found] == [0, 0, 1, 1]


@pytest.mark.parametrize("what", ABLATIONS)
def test_an_ablation_changes_one_thing_and_keeps_the_rest(what: Any) -> None:
    whole = plan(ablation=what, seeds=(0,), schemes=("local",))

    found = tasks(whole)

    assert len({str(task.folder) for task in found}) == len(found) == len(ABLATIONS[what])
    totals = {task.config.rounds * task.config.steps for task in found}
    assert totals == {100}
    scales = {task.config.adapter.alpha / task.config.adapter.rank for task in found}
    assert scales == {2.0}


def test_a_folder_is_no_bigger_model_than_its_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100)

    assert plans.is_small(str(tmp_path))
    assert plans.is_small("nano")
    assert not plans.is_small("gpt2")
    assert folder_of(plan(config=small(SETTING, str(tmp_path)))).name == tmp_path.name


def pretend(config: SimulationConfig, folder: Path, *, fresh: bool, on_progress: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    on_progress(SimulationProgress(3, 4, 1.5))
    (folder / "result.json").write_text(json.dumps({"seed": config.seed}))
    return folder


def test_a_sweep_runs_what_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2pfinetune.simulation.run.simulate", pretend)
    found = tasks(plan())
    done = tmp_path / found[1].folder
    done.mkdir(parents=True)
    (done / "result.json").write_text("kept")
    told: list[sweeps.Told] = []

    folders = sweeps.sweep(found, tmp_path, workers=1, tell=told.append)

    assert folders == [tmp_path / task.folder for task in found]
    assert (done / "result.json").read_text() == "kept"
    assert [entry.number for entry in told] == [1, 0, 2, 3]
    assert [entry.visits for entry in told] == [1, 3, 3, 3]


def test_an_error_of_one_task_ends_the_sweep_with_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Path:
        raise LearningError("no text", "give text")

    monkeypatch.setattr("p2pfinetune.simulation.run.simulate", fail)

    with pytest.raises(LearningError, match="no text"):
        sweeps.sweep(tasks(plan()), tmp_path, workers=1)
