"""Newcomers of a simulation: what all others ended with is what each begins from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.engine import LocalEngine
from p2pfinetune.simulation.run import base_for, population_of, simulate

ALONE = {"trust": "local", "merge_until": 0.0, "rounds": 2}
NEWCOMERS = {**ALONE, "gate_steps": 2, "newcomers": True}


def test_newcomers_begin_with_what_others_have_and_train_as_long_again(
    config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    alone, newcomers = (
        simulate(config(**options), tmp_path / name) for name, options in (("alone", ALONE), ("newcomers", NEWCOMERS))
    )

    lines = [json.loads(line) for line in (newcomers / "metrics.jsonl").read_text().splitlines()]
    ended = [json.loads((folder / "result.json").read_text()) for folder in (alone, newcomers)]
    assert [line["round"] for line in lines if line["peer"] == "peer0"] == [1, 2, 3, 4]
    assert [line["heard"] for line in lines] == [{}] * len(lines)
    assert ended[0]["bytes"] == 0 < ended[1]["bytes"]
    first = {line["peer"]: line["loss_train"] for line in lines if line["round"] == 1}
    third = {line["peer"]: line["loss_train"] for line in lines if line["round"] == 3}
    assert all(third[peer] < first[peer] for peer in first)


def test_nobody_gets_anything_of_its_own_back(config: Callable[..., SimulationConfig]) -> None:
    chosen = config(**NEWCOMERS)
    population = population_of(chosen)
    engine = LocalEngine(chosen, population, base_for(chosen))
    engine.train(population.peers)
    told = engine._shard.told()

    sizes = engine.assemble()

    assert sizes == 3 * sum(len(update) + len(gates) for update, gates in told.values())
    for peer in population.peers:
        learner = engine._shard._learners[peer]
        own = learner.admit(told[peer][0], chosen.codec).adapter(learner.adapter("base"))
        layers = [name for name in own.tensors if name.endswith("lora_B")]
        personal = learner.personal().tensors
        assert learner.steps == 0
        assert not any(bool((personal[name] == own.tensors[name]).all()) for name in layers)


def test_sharers_that_merge_would_tell_a_newcomer_of_itself(config: Callable[..., SimulationConfig]) -> None:
    for wrong in ({**NEWCOMERS, "merge_until": 1.0}, {**NEWCOMERS, "gate_steps": 0}):
        with pytest.raises(OptionError, match="newcomers assemble"):
            config(**wrong)
