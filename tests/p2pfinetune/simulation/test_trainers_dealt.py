"""Peers with and without gradients in one simulated network."""

from collections.abc import Callable
from pathlib import Path

from p2pfinetune.compare.schemes import SCHEMES
from p2pfinetune.options import TrainerOptions
from p2pfinetune.simulation.config import SimulationConfig, dump_config, load_config
from p2pfinetune.simulation.run import base_for, population_of
from p2pfinetune.simulation.shard import Shard

HALVES = (TrainerOptions(trainer="mezo", trainer_options={"samples": 2}), TrainerOptions())


def test_trainers_are_dealt_in_turn_and_peers_of_every_kind_train_and_publish_alike(
    config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    chosen = config(trainers=HALVES, steps=1)
    population, base = population_of(chosen), base_for(chosen)
    shard = Shard(chosen, population, population.peers[:3], base)

    shard.train(shard.peers)

    options = [shard._learners[peer].options for peer in shard.peers]
    assert [one.trainer for one in options] == ["mezo", "adamw", "mezo"]
    assert [dict(one.trainer_options) for one in options] == [{"samples": 2}, {}, {"samples": 2}]
    assert len({len(shard.publish(peer).blob) for peer in shard.peers}) == 1
    assert len({learner.network for learner in shard._learners.values()}) == 1
    (tmp_path / "config.toml").write_text(dump_config(chosen))
    assert load_config(tmp_path / "config.toml") == chosen


def test_rows_of_the_comparison_deal_trainers_with_the_same_trust_as_the_default_row() -> None:
    for name in ("mezo", "mezo-and-adamw"):
        change = dict(SCHEMES[name])
        assert [by.trainer for by in change.pop("trainers")] == {"mezo": ["mezo"]}.get(name, ["mezo", "adamw"])
        assert change == dict(SCHEMES["default"])
