"""Whole simulations on a tiny random model: the daemon's own learner under a timetable, interrupted and resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.simulation import run
from p2pfinetune.simulation.config import (
    AdapterChoice,
    Privacy,
    SimulationConfig,
    TrainingChoice,
    dump_config,
    load_config,
)
from p2pfinetune.simulation.engine import LocalEngine
from p2pfinetune.simulation.run import simulate
from p2pfinetune.simulation.timetable import Churn, Timing
from p2pfinetune.simulation.topology import Topology

Make = Callable[..., SimulationConfig]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_a_run_leaves_its_config_population_metrics_and_result(config: Make, tmp_path: Path) -> None:
    folder = simulate(config(), tmp_path / "run")

    assert load_config(folder / "config.toml") == config()
    assert json.loads((folder / "population.json").read_text())["peers"]["peer1"]["shares"] == [0.0, 1.0]
    assert len(lines(folder)) == 4 * 4
    assert result(folder)["peers"].keys() == {"peer0", "peer1", "peer2", "peer3"}
    assert not (folder / "state").exists()


def test_nobody_merges_in_warm_up_and_everybody_hears_everybody_afterwards(config: Make, tmp_path: Path) -> None:
    found = lines(simulate(config(), tmp_path / "run"))

    assert all(line["row"] is None and line["bytes_in"] == 0 for line in found if line["round"] == 1)
    later = [line for line in found if line["round"] > 1]
    assert all(
        line["row"] == pytest.approx(dict.fromkeys(["peer0", "peer1", "peer2", "peer3"], 0.25)) for line in later
    )
    assert all(len(line["heard"]) == 3 and set(line["heard"].values()) == {line["round"]} for line in later)


def test_what_is_sent_is_what_is_received(config: Make, tmp_path: Path) -> None:
    folder = simulate(config(), tmp_path / "run")

    received = sum(line["bytes_in"] for line in lines(folder))
    assert received == sum(line["bytes_out"] for line in lines(folder)) == result(folder)["bytes"] > 0


def test_uniform_merges_make_all_peers_one(config: Make, tmp_path: Path) -> None:
    folder = simulate(config(codec="fp32"), tmp_path / "run")

    peers = [line for line in lines(folder) if line["round"] == 4]
    losses = result(folder)["peers"]
    same_text = {peer: losses[peer]["loss"]["personal"] for peer in losses}
    assert all(line["accepted"] for line in peers)
    assert len(set(same_text.values())) == 4  # measured on different test splits


def test_fine_tuning_after_averaging_stops_the_merges(config: Make, tmp_path: Path) -> None:
    found = lines(simulate(config(merge_until=0.5), tmp_path / "run"))

    assert {line["round"] for line in found if line["row"]} == {2}


def test_the_local_scheme_is_the_twin_of_any_other(config: Make, tmp_path: Path) -> None:
    alone = result(simulate(config(trust="local"), tmp_path / "alone"))
    together = result(simulate(config(twin=True), tmp_path / "together"))

    for peer, found in together["peers"].items():
        assert found["loss"]["local"] == pytest.approx(alone["peers"][peer]["loss"]["personal"], abs=1e-5)
        against, loss = found["against_alone"], found["loss"]
        assert against["nats"] == pytest.approx(loss["served"] - min(loss["local"], loss["local_best"]), abs=1e-9)
        assert against["low"] <= against["nats"] <= against["high"]


def test_each_document_of_the_test_split_has_its_loss_so_that_runs_can_be_paired(config: Make, tmp_path: Path) -> None:
    found = result(simulate(config(twin=True), tmp_path / "run"))

    assert found["peak_bytes"] is None or found["peak_bytes"] > 1 << 20
    for peer in found["peers"].values():
        for which in ("best", "local_best"):
            nats, tokens = (sum(column) for column in zip(*peer["documents"][which], strict=True))
            assert tokens == peer["tokens"]
            assert nats / tokens == pytest.approx(peer["loss"][which], abs=1e-4)


def test_ditto_ends_between_the_twin_and_the_average(config: Make, tmp_path: Path) -> None:
    ditto = result(
        simulate(
            config(twin=True, twin_pull=100.0, training=TrainingChoice(lr=1e-2, batch_size=2, context=32)),
            tmp_path / "d",
        )
    )
    free = result(simulate(config(twin=True), tmp_path / "free"))

    moved = [ditto["peers"][p]["loss"]["local"] != free["peers"][p]["loss"]["local"] for p in ditto["peers"]]
    assert all(moved)


def test_clients_with_an_a_of_their_own_start_apart(config: Make, tmp_path: Path) -> None:
    apart = config(adapter=AdapterChoice(rank=2, alpha=4, shared_start=False), trust="weight-similarity", rounds=2)
    shared = config(trust="weight-similarity", rounds=2)

    rows = {
        name: next(line["row"] for line in lines(simulate(c, tmp_path / name)) if line["row"])
        for name, c in (("apart", apart), ("shared", shared))
    }

    assert rows["apart"] != pytest.approx(rows["shared"], abs=1e-3)


@pytest.mark.parametrize(
    "timing", [Timing(), Timing(kind="asynchronous", spread=0.5, jitter=0.2, delay=0.3, max_age=3.0)]
)
def test_an_interrupted_run_goes_on_to_the_same_figures(
    config: Make, tmp_path: Path, timing: Timing, monkeypatch
) -> None:
    monkeypatch.setattr("p2pfinetune.simulation.run.CHECKPOINT_SECONDS", 0.0)
    churn = Churn(leave=0.2, back=0.5)
    chosen = config(rounds=3, timing=timing, churn=churn, trust="mixture", twin=True, guarded=True)
    whole = simulate(chosen, tmp_path / "whole")

    waves = 0

    def interrupt(_: object) -> None:
        nonlocal waves
        waves += 1
        if waves == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(chosen, tmp_path / "broken", on_progress=interrupt)
    simulate(chosen, tmp_path / "broken")

    assert lines(tmp_path / "broken") == lines(whole)
    assert result(tmp_path / "broken")["peers"] == result(whole)["peers"]
    assert result(tmp_path / "broken")["bytes"] == result(whole)["bytes"]


def test_a_run_by_another_trainer_with_a_scheme_that_remembers_goes_on_to_the_same_figures(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfinetune.simulation.run.CHECKPOINT_SECONDS", 0.0)
    by = {"trainer": "sgd", "trainer_options": {"momentum": 0.5}, "trust": "smoothed-validation"}
    chosen = config(rounds=2, warmup_rounds=0, steps=1, **by)
    whole = simulate(chosen, tmp_path / "whole")
    told = []

    def interrupt(progress: object) -> None:
        told.append(progress)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(chosen, tmp_path / "broken", on_progress=interrupt)
    simulate(chosen, tmp_path / "broken")

    assert lines(tmp_path / "broken") == lines(whole)
    assert result(tmp_path / "broken")["peers"] == result(whole)["peers"]


def test_a_row_for_each_layer_is_shown_as_the_mean_and_needs_a_rule_that_merges_by_it(
    config: Make, tmp_path: Path
) -> None:
    folder = simulate(config(rounds=2, trust="layer-similarity"), tmp_path / "layers")

    rows = [line["row"] for line in lines(folder) if line["row"]]
    assert rows
    assert all(sum(row.values()) == pytest.approx(1.0) for row in rows)
    with pytest.raises(OptionError, match=r"'layer-similarity'.*'krum'"):
        simulate(config(trust="layer-similarity", merge="krum"), tmp_path / "refused")


def test_a_complete_run_is_not_run_again(config: Make, tmp_path: Path) -> None:
    simulate(config(), tmp_path / "run")

    def never(*_: object) -> LocalEngine:
        raise AssertionError

    assert simulate(config(), tmp_path / "run", make_engine=never) == tmp_path / "run"


def test_a_folder_of_another_config_is_left_alone(config: Make, tmp_path: Path) -> None:
    simulate(config(), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()

    with pytest.raises(OptionError, match="another configuration"):
        simulate(config(seed=1), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_the_same_seed_gives_the_same_figures_and_another_seed_others(config: Make, tmp_path: Path) -> None:
    found = [lines(simulate(config(seed=seed, rounds=2), tmp_path / str(i))) for i, seed in enumerate((1, 1, 2))]

    assert found[0] == found[1] != found[2]


def test_a_ring_hears_two(config: Make, tmp_path: Path) -> None:
    found = lines(simulate(config(topology=Topology(kind="ring"), rounds=2), tmp_path / "run"))

    assert [sorted(line["heard"]) for line in found if line["round"] == 2] == [
        ["peer1", "peer3"], ["peer0", "peer2"], ["peer1", "peer3"], ["peer0", "peer2"],
    ]  # fmt: skip


def test_a_config_survives_its_file(config: Make, tmp_path: Path) -> None:
    chosen = config(timing=Timing(kind="asynchronous", spread=1.0), trust_options={"top_k": 3})
    (tmp_path / "c.toml").write_text(dump_config(chosen))

    assert load_config(tmp_path / "c.toml") == chosen


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rounds = 0\n[setting]\nname = 'languages'", "rounds"),
        ("hope = 1", "hope"),
        ("precision = 'fp16'\n[setting]\nname = 'languages'", "fp16.*precision"),
        ("", "needs text"),
        ("[setting]\nname = 'poems'", "poems"),
        ("rounds = [", "c.toml"),
    ],
)
def test_a_bad_config_is_refused_by_name(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(text)

    with pytest.raises(OptionError, match=complaint):
        load_config(tmp_path / "c.toml")


def test_a_text_digest_depends_on_the_text_alone(config: Make) -> None:
    one = config()

    assert one.text_digest() == msgspec.structs.replace(one, trust="local", rounds=9).text_digest()
    assert one.text_digest() != msgspec.structs.replace(one, seed=9).text_digest()


def test_peers_that_publish_privately_are_heard_through_their_noise_and_a_seed_repeats_it(
    config: Make, tmp_path: Path
) -> None:
    plain, loud = config(), config(privacy=Privacy(clip=0.1, noise=1.0))

    runs = [lines(simulate(each, tmp_path / name)) for name, each in (("a", plain), ("b", loud), ("c", loud))]

    assert [line["guard_personal"] for line in runs[1]] == [line["guard_personal"] for line in runs[2]]
    first = [[line["guard_own"] for line in run if line["round"] == 1] for run in runs]
    assert first[0] == first[1], "own training knows nothing of the noise"
    last = [[line["guard_personal"] for line in run if line["round"] == 4] for run in runs]
    assert all(noised > heard for noised, heard in zip(last[1], last[0], strict=True))


@pytest.mark.parametrize("half", [{"clip": 1.0}, {"noise": 1.0}])
def test_half_a_private_publishing_is_refused(half: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="both a clip and a noise"):
        Privacy(**half)


@pytest.mark.parametrize(("half", "precision"), [(0.5, "bf16"), (1.5, "fp32")])
def test_auto_becomes_one_precision_when_a_run_begins_and_stays_it(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: float, precision: str
) -> None:
    monkeypatch.setattr(run, "missing", lambda _: "")
    monkeypatch.setattr(run, "step_times", lambda *_: [(1.0, half)])
    chosen = config(precision="auto", rounds=2)
    folder = simulate(chosen, tmp_path / "auto")
    monkeypatch.setattr(run, "missing", lambda _: "no units")
    monkeypatch.setattr(run, "step_times", lambda *_: [(1.0, 1.0 / half)])

    assert load_config(folder / "config.toml").precision == precision
    assert simulate(chosen, tmp_path / "auto") == folder  # complete, and the same
    asked = simulate(config(precision=precision, rounds=2), tmp_path / "asked")
    assert lines(asked) == lines(folder)
    assert load_config(simulate(chosen, folder, fresh=True) / "config.toml").precision == "fp32"
