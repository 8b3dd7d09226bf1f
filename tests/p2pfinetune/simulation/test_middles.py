"""Pairs of a simulation meet at their middles: by lot, and what comes of it is the same however it is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId, Round
from p2pfinetune.simulation import run as running
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.hostile.attacks import Attack
from p2pfinetune.simulation.middles import meets
from p2pfinetune.simulation.run import simulate

ALWAYS = {"pair": 1.0, "gamma": 30.0, "rho": 0.5}


def rows(folder: Path) -> list[dict[str, Any]]:
    return [line["row"] for line in lines(folder) if line["row"]]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_pair_meets_as_often_as_it_should_and_by_the_seed_alone() -> None:
    a, b = PeerId("a"), PeerId("b")
    met = [meets(7, Round(number), a, b, 0.25) for number in range(2000)]

    assert 400 < sum(met) < 600
    assert met == [meets(7, Round(number), a, b, 0.25) for number in range(2000)]
    assert met != [meets(7, Round(number), b, a, 0.25) for number in range(2000)]


def test_peers_of_one_kind_of_text_come_to_trust_each_other(
    config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    last = rows(simulate(config(trust="cobo", trust_options=ALWAYS, rounds=6), tmp_path / "run"))[-4:]

    for place, row in enumerate(last):
        like, unlike = [f"peer{(place + 2) % 4}"], [f"peer{(place + 1) % 4}", f"peer{(place + 3) % 4}"]
        assert min(row[peer] for peer in like) > max(row[peer] for peer in unlike)


def test_a_simulation_that_asks_neighbours_goes_on_to_the_same_figures(
    config: Callable[..., SimulationConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(trust="cobo", trust_options={**ALWAYS, "pull": "spring", "pair": 0.5}, rounds=3)
    through = lines(simulate(chosen, tmp_path / "through"))
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0.0)

    class Interrupted(Exception):
        pass

    def interrupt(progress: running.SimulationProgress) -> None:
        if progress.visits >= 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(chosen, tmp_path / "again", on_progress=interrupt)

    assert lines(simulate(chosen, tmp_path / "again")) == through


def test_who_flatters_gets_weight_and_meets_the_bound_and_the_guard_as_anybody(
    config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    attack = Attack(kind="flatter", attackers=1)
    chosen = config(trust="cobo", trust_options={**ALWAYS, "rho": 1.0}, attack=attack, guarded=True)
    chosen = msgspec.structs.replace(chosen, max_share=0.3, second_look=False)

    found = [line for line in lines(simulate(chosen, tmp_path / "run")) if line["peer"].startswith("peer")]

    assert max(line["row"]["attacker-1"] for line in found if line["row"]) == pytest.approx(0.3)
    assert all(line["guard_personal"] <= line["best_guard"] + chosen.tolerance for line in found)


def test_a_cluster_is_told_that_its_machines_do_not_hold_each_others_text(
    config: Callable[..., SimulationConfig],
) -> None:
    from p2pfinetune.simulation.ray_engine import RayEngine

    with pytest.raises(OptionError, match="asks neighbours for gradients"):
        RayEngine(None, [], config(trust="cobo"), None, None)  # type: ignore[arg-type]
