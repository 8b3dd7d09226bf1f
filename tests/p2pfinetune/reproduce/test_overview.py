"""Several sweeps in one table: changes against training alone, and never a mean of perplexities of two settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfinetune.compare.folders import read_sweep
from p2pfinetune.compare.overview import overview, overview_markdown
from p2pfinetune.compare.summary import summarise
from p2pfinetune.paper.settings import first_of_each

Write = Callable[..., Path]


def sweep(write_run: Write, folder: Path, losses: dict[str, float]) -> Path:
    for seed in range(2):
        for scheme, loss in losses.items():
            write_run(folder / f"seed-{seed}" / scheme, [loss, loss, loss, loss + 0.1])
    return folder


def test_what_a_scheme_brings_is_a_mean_of_changes_and_its_worst_column_is_told(
    write_run: Write, tmp_path: Path
) -> None:
    easy = sweep(write_run, tmp_path / "languages-specific" / "nano", {"local": 2.0, "uniform": 1.9, "odd": 2.0})
    hard = sweep(write_run, tmp_path / "ag-news-mixed" / "nano", {"local": 5.0, "uniform": 5.1})

    found = overview([summarise(read_sweep(folder)) for folder in (easy, hard)])

    by_name = {one.name: one for one in found.overall}
    up, down = math.expm1(0.1), math.expm1(-0.1)
    assert by_name["uniform"].change == pytest.approx((up + down) / 2)
    assert by_name["uniform"].least == pytest.approx(up)
    assert by_name["odd"].columns == 1
    assert [one.name for one in found.overall] == ["local", "odd", "uniform"]
    text = overview_markdown(found)
    assert "| odd (1 columns) | +0.0 % |" in text
    assert text.count("\n### ") == 2


def test_a_scheme_without_a_run_of_training_alone_beside_it_is_shown_and_not_ranked(
    write_run: Write, tmp_path: Path
) -> None:
    folder = sweep(write_run, tmp_path / "languages-specific" / "nano", {"uniform": 1.9})

    (one,) = overview([summarise(read_sweep(folder))]).overall

    assert (one.change, one.columns) == (None, 0)


def test_the_first_peers_of_each_category_are_taken_and_no_others() -> None:
    assert first_of_each("languages", "specific", 1) == ("fr-1", "de-1", "it-1")
    assert len(first_of_each("code-wiki", "specific", 2)) == 4
    assert first_of_each("ag-news", "mixed", 0) == ()
