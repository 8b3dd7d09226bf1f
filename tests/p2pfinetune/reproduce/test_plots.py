"""Pictures: that they are drawn, and that what they are drawn from is right. People judge how they look."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2pfinetune.compare.folders import read_run
from p2pfinetune.compare.plots import COLOURS, guard_curve, mean_matrices, plot_run, plot_sweep, spread_over_seeds
from p2pfinetune.compare.trust_matrices import merged_rounds, trust_matrices, write_trust_matrices

Write = Callable[..., Path]


def test_trust_matrices_are_nan_where_nobody_merged(write_run: Write, tmp_path: Path) -> None:
    found = trust_matrices(read_run(write_run(tmp_path / "run", [3.0] * 4, own=0.75, rounds=4)))

    assert found.shape == (4, 4, 4)
    assert np.isnan(found[:2]).all()
    assert merged_rounds(found) == [2, 3]
    assert found[2, 0].tolist() == [0.75, 0.25, 0.0, 0.0]


def test_trust_matrices_are_written_with_the_order_of_peers(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [3.0] * 4, own=0.75)

    with np.load(write_trust_matrices(folder)) as written:
        assert written["peers"].tolist() == ["de-1", "de-2", "fr-1", "fr-2"]
        assert written["shares"].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
        assert written["trust"].shape == (8, 4, 4)


def test_the_mean_over_seeds_leaves_out_who_did_not_merge() -> None:
    one, two = np.full((2, 1, 1), np.nan), np.full((3, 1, 1), 0.5)
    one[1] = 1.0

    assert mean_matrices([one, two]).ravel().tolist() == [0.5, 0.75]
    assert np.isnan(mean_matrices([one, one])[0, 0, 0])


def test_a_curve_shows_rounds_that_all_peers_have_ended(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", None, rounds=3, floor=3.0)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))

    rounds, values = guard_curve(read_run(folder))

    assert rounds == [1, 2]
    assert values == pytest.approx([math.exp(3.0 + 1.2 * math.exp(-number / 3)) for number in rounds])


def test_bands_leave_out_what_a_seed_does_to_all_schemes_alike() -> None:
    text = np.array([[0.0, 0.0], [50.0, 40.0], [9.0, 3.0]])
    noise = np.array([[1.0, 0.5], [-1.0, -0.5], [0.0, 0.0]])

    found = spread_over_seeds({"a": 30.0 + text + noise, "b": 20.0 + text - noise})

    assert found["a"] == pytest.approx(np.sqrt(2) * noise.std(axis=0, ddof=1))
    assert found["b"] == pytest.approx(found["a"])


def test_bands_are_plain_where_seeds_are_missing_and_nothing_with_one_seed() -> None:
    found = spread_over_seeds({"a": np.array([[1.0], [3.0]]), "b": np.array([[7.0]])})

    assert found["a"] == pytest.approx([np.sqrt(2)])
    assert found["b"].tolist() == [0.0]


def test_a_run_that_listens_to_nobody_gets_no_heat_map(write_run: Write, tmp_path: Path) -> None:
    assert [path.name for path in plot_run(write_run(tmp_path / "run", [3.0] * 4, own=1.0))] == ["curves.png"]


def test_no_two_colours_are_one() -> None:
    assert len(set(COLOURS)) == len(COLOURS)


def test_a_run_gets_curves_and_heat_maps(write_run: Write, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", None, own=0.5, twin=[3.1] * 4)

    assert [path.name for path in plot_run(folder)] == ["curves.png", "trust.png"]
    assert (folder / "trust.npz").exists()


def test_a_run_without_merges_gets_no_heat_map(write_run: Write, tmp_path: Path) -> None:
    assert [path.name for path in plot_run(write_run(tmp_path / "run", [3.0] * 4))] == ["curves.png"]


def test_a_sweep_gets_curves_bars_and_heat_maps(write_run: Write, sweep_folder: Path) -> None:
    for seed in range(2):
        write_run(sweep_folder / f"seed-{seed}" / "local", [3.3] * 4)
        write_run(sweep_folder / f"seed-{seed}" / "validation", [3.0] * 4, own=0.5)
    write_run(sweep_folder / "seed-1" / "ring", None, own=0.5, rounds=1)

    found = plot_sweep(sweep_folder, formats=("png", "svg"))

    drawn = ["curves.png", "curves.svg", "bars.png", "bars.svg", "trust-validation.png", "trust-validation.svg"]
    assert [path.name for path in found] == drawn
    assert all(path.stat().st_size > 1000 for path in found)
