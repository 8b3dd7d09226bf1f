"""What a sweep shows, from run folders with known figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfinetune.compare.folders import read_run, read_sweep
from p2pfinetune.compare.summary import (
    SchemeSummary,
    Summary,
    better_and_worse,
    gap_closed,
    own_category_trust,
    rank,
    summarise,
    tokens_per_peer,
    wilson,
)
from p2pfinetune.errors import RunError

Write = Callable[..., Path]


def of(summary: Summary, name: str) -> SchemeSummary:
    return next(scheme for scheme in summary.schemes if scheme.name == name)


def test_the_perplexity_of_a_seed_is_that_of_the_peers_mean_loss(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "local", [3.0, 3.2, 3.4, 3.6])
    write_run(sweep_folder / "seed-1" / "local", [3.1, 3.3, 3.5, 3.7])

    found = of(summarise(read_sweep(sweep_folder)), "local")

    first, second = math.exp(3.3), math.exp(3.4)
    assert found.perplexity_mean == pytest.approx((first + second) / 2)
    assert found.perplexity_std == pytest.approx((second - first) / math.sqrt(2))
    assert found.last_perplexity_mean == pytest.approx((math.exp(3.32) + math.exp(3.42)) / 2)
    assert (found.nats_mean, found.nats_std) == (pytest.approx(3.35), pytest.approx(0.1 / math.sqrt(2)))


def test_one_seed_has_no_spread(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "local", [3.0] * 4)
    write_run(sweep_folder / "seed-0" / "fedavg", [2.9] * 4)

    found = of(summarise(read_sweep(sweep_folder)), "fedavg")

    assert (found.perplexity_std, found.nats_std, found.gain_nats_std) == (None, None, None)
    assert found.gain_nats_mean == pytest.approx(0.1)


def test_the_gain_is_paired_with_local_of_the_same_seed(write_run: Write, sweep_folder: Path) -> None:
    for seed, level in enumerate((3.0, 3.5, 4.0)):
        write_run(sweep_folder / f"seed-{seed}" / "local", [level] * 4)
        write_run(sweep_folder / f"seed-{seed}" / "validation", [level - 0.2] * 4)

    found = of(summarise(read_sweep(sweep_folder)), "validation")

    assert found.gain_nats_mean == pytest.approx(0.2)
    assert found.gain_nats_std == pytest.approx(0.0, abs=1e-12)


def test_the_gap_closed_is_a_mean_of_ratios_of_perplexities() -> None:
    local, oracle = {0: 30.0, 1: 40.0, 2: 31.0}, {0: 20.0, 1: 30.0, 2: 22.0}

    ratios, absent = gap_closed(local, {0: 25.0, 1: 30.0, 2: 22.0}, oracle)

    assert ratios == pytest.approx((0.5, 1.0, 1.0))
    assert absent is None


@pytest.mark.parametrize(
    ("local", "oracle", "why"),
    [
        ({0: 30.0, 1: 30.0}, {0: 31.0, 1: 30.0}, "theoretical weights gain nothing over local"),
        ({0: 30.0, 1: 30.0}, {0: 29.9, 1: 20.0}, "the gain of theoretical weights is within noise"),
        ({0: 30.0}, {0: 20.0}, "one seed: whether the gain of theoretical weights is noise cannot be told"),
        ({0: 30.0}, {1: 20.0}, "no seed with both local and theoretical"),
    ],
)
def test_there_is_no_ratio_where_the_oracles_gain_says_nothing(
    local: dict[int, float], oracle: dict[int, float], why: str
) -> None:
    assert gap_closed(local, local, oracle) == ((), why)


def test_better_and_worse_begin_beyond_half_a_percent_of_perplexity() -> None:
    almost, beyond = math.log(1.0049), math.log(1.0051)

    assert better_and_worse([(3.0, 3.0 + almost), (3.0, 3.0 + beyond), (3.0, 3.0 - beyond - 1e-4)]) == (1, 1)


def test_peers_are_paired_with_themselves_and_not_with_the_mean(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "local", [3.0, 4.0, 3.0, 4.0])
    write_run(sweep_folder / "seed-0" / "validation", [3.1, 3.9, 2.9, 3.8])

    found = of(summarise(read_sweep(sweep_folder)), "validation")

    assert (found.better_than_local, found.worse_than_local, found.pairs) == (0.75, 0.25, 4)
    assert found.worse_than_local_interval == pytest.approx(wilson(1, 4))


def test_the_worst_tenth_is_of_all_peers_and_seeds_and_by_what_collaboration_brought_them(
    write_run: Write, sweep_folder: Path
) -> None:
    """Of eight pairs one: fr-2 of seed 0 has the hardest text, de-1 of seed 1 has the least of collaboration."""
    for seed, change in ((0, [-0.2, -0.2, -0.2, -0.4]), (1, [0.1, -0.2, -0.2, -0.2])):
        alone = [3.0, 3.0, 3.0, 4.5]
        write_run(sweep_folder / f"seed-{seed}" / "local", alone)
        write_run(sweep_folder / f"seed-{seed}" / "validation", [a + b for a, b in zip(alone, change, strict=True)])

    found = summarise(read_sweep(sweep_folder))

    assert of(found, "validation").worst_tenth_perplexity == pytest.approx(math.exp(4.3))
    assert of(found, "validation").worst_tenth_change == pytest.approx(math.expm1(0.1))
    assert of(found, "local").worst_tenth_change == 0.0


def test_of_eleven_pairs_the_worst_tenth_is_two(write_run: Write, sweep_folder: Path) -> None:
    peers = [f"de-{i}" for i in range(11)]
    write_run(sweep_folder / "seed-0" / "local", [3.0 + 0.1 * i for i in range(11)], peers=peers)

    assert of(summarise(read_sweep(sweep_folder)), "local").worst_tenth_perplexity == pytest.approx(math.exp(3.95))


def test_wilsons_interval_agrees_with_published_values() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


def test_incomplete_runs_are_missing_and_not_counted(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "local", [3.0] * 4)
    write_run(sweep_folder / "seed-1" / "local", None)
    (sweep_folder / "seed-1" / "fedavg").mkdir()

    found = summarise(read_sweep(sweep_folder), expected=[(0, "local"), (2, "local")])

    assert found.missing == ["seed-1/fedavg", "seed-1/local", "seed-2/local"]
    assert found.seeds == of(found, "local").seeds == [0]


def test_a_run_that_diverged_is_missing(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "local", [3.0] * 4)
    write_run(sweep_folder / "seed-0" / "fedavg", [3.0, math.nan, 3.0, 3.0])

    found = summarise(read_sweep(sweep_folder))

    assert found.missing == ["seed-0/fedavg"]
    assert [scheme.name for scheme in found.schemes] == ["local"]


def test_without_a_local_run_twins_stand_in(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "validation", [2.9] * 4, twin=[3.0] * 4)

    assert of(summarise(read_sweep(sweep_folder)), "validation").gain_nats_mean == pytest.approx(0.1)


def test_without_anything_trained_alone_there_is_no_comparison(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "validation", [2.9] * 4)

    found = of(summarise(read_sweep(sweep_folder)), "validation")

    assert (found.gain_nats_mean, found.better_than_local, found.worse_than_local_interval) == (None, None, None)
    assert found.worst_tenth_change is None


def test_if_mixtures_are_served_they_are_what_counts(write_run: Write, sweep_folder: Path) -> None:
    folder = write_run(sweep_folder / "seed-0" / "default-mixture", [3.4] * 4)
    result = json.loads((folder / "result.json").read_text())
    for found in result["peers"].values():
        found["loss"]["served"] = 3.1
        found["documents"] = {"best": [[3.4, 50]], "served": [[3.1, 50]]}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.toml").write_text('serve = "mixture"\n')

    run = read_run(folder)

    assert of(summarise(read_sweep(sweep_folder)), "default-mixture").nats_mean == pytest.approx(3.1)
    assert run.result is not None
    assert {found.documents["best"] for found in run.result.peers.values()} == {((3.1, 50),)}


def test_in_ditto_the_twin_is_what_counts_and_it_is_nobodys_local(write_run: Write, sweep_folder: Path) -> None:
    folder = write_run(sweep_folder / "seed-0" / "ditto", [3.4] * 4, twin=[3.0] * 4)
    (folder / "config.toml").write_text("rounds = 8\ntwin_pull = 0.1\n")

    found = of(summarise(read_sweep(sweep_folder)), "ditto")

    assert found.perplexity_mean == pytest.approx(math.exp(3.0))
    assert found.gain_nats_mean is None
    assert read_run(folder).lines[0].guard == pytest.approx(3.0 + 1.2 * math.exp(-1 / 3))


def test_trust_in_the_own_category_is_compared_with_chance(write_run: Write, tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", [3.0] * 4, own=0.5))

    given, chance = own_category_trust(run)

    assert given == pytest.approx(1.0)
    assert chance == pytest.approx(1 / 3)


def test_trust_in_mixed_text_counts_what_is_alike(tmp_path: Path) -> None:
    half = {"shares": [0.5, 0.5], "tokens": {}}
    pure = {"shares": [1.0, 0.0], "tokens": {}}
    (tmp_path / "population.json").write_text(json.dumps({"categories": ["x", "y"], "peers": {"a": half, "b": pure}}))
    line = {"round": 1, "peer": "a", "row": {"a": 0.3, "b": 0.7}, "accepted": True}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")

    assert own_category_trust(read_run(tmp_path)) == (pytest.approx(0.5), pytest.approx(0.5))


def test_refusals_of_guards_are_counted(write_run: Write, sweep_folder: Path) -> None:
    write_run(sweep_folder / "seed-0" / "validation", [3.0] * 4, own=0.5, refused=frozenset({(1, "de-1"), (4, "fr-2")}))

    found = of(summarise(read_sweep(sweep_folder)), "validation")

    assert (found.merges, found.merges_refused) == (24, 1)  # nobody merges in the first two rounds


def test_schemes_stand_in_one_order() -> None:
    shuffled = ["ring", "mixture", "ditto", "theoretical", "local", "validation", "fedavg"]

    assert sorted(shuffled, key=rank) == ["local", "fedavg", "theoretical", "validation", "mixture", "ditto", "ring"]


def test_tokens_are_summed_up_by_split(write_run: Write, tmp_path: Path) -> None:
    found = tokens_per_peer([read_run(write_run(tmp_path / "run", [3.0] * 4))])

    assert list(found) == ["train", "trust", "guard", "test"]
    assert (found["train"].min, found["train"].mean, found["train"].max) == (12_000, 12_000.0, 12_000)


def test_setting_mix_and_model_are_told_by_the_folders(write_run: Write, tmp_path: Path) -> None:
    folder = tmp_path / "code-wiki-mixed" / "gpt2"
    write_run(folder / "seed-3" / "local", [3.0] * 4)

    found = summarise(read_sweep(folder))

    assert (found.setting, found.mix, found.model, found.seeds) == ("code-wiki", "mixed", "gpt2", [3])


def test_a_line_that_was_cut_off_is_left_out(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", None)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"round": 9, "pe')

    assert len(read_run(folder).lines) == 32


def test_a_folder_without_a_run_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a simulation"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="no run lies in"):
        read_sweep(tmp_path)


def test_a_file_of_another_form_is_said_to_be_one(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [3.0] * 4)
    (folder / "result.json").write_text('{"seconds": "soon"}')

    with pytest.raises(RunError, match="does not have the form"):
        read_run(folder)
