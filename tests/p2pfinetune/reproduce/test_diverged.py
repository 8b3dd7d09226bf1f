"""A run in which a model has diverged: simulator, tables, plots and trust read it alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfinetune.cli import answers, simulate
from p2pfinetune.cli.progress import Step
from p2pfinetune.compare.folders import read_run, read_sweep
from p2pfinetune.compare.plots import guard_curve
from p2pfinetune.compare.summary import better_and_worse, summarise
from p2pfinetune.scoring.perplexity import DIVERGED, MAX_LOSS, MAX_PERPLEXITY, as_change, has_diverged

Write = Callable[..., Path]


@pytest.mark.parametrize("loss", [math.nan, math.inf, 60.0, 300.0])
def test_a_diverged_run_reads_alike_as_document_table_progress_and_curve(
    write_run: Write, sweep_folder: Path, loss: float
) -> None:
    folder = write_run(sweep_folder / "seed-0" / "fedavg", [3.0, loss, 3.0, 3.0])
    run = read_run(folder)
    peers = [simulate._peer(run, peer) for peer in run.peers]
    table = simulate._words(answers.Simulated(folder="x", seconds=1.0, bytes=1, peers=peers, plots=[]))

    assert peers[1].perplexity.best == MAX_PERPLEXITY
    assert peers[1].perplexity.local is None
    assert table.count(DIVERGED) == 3
    assert Step("fedavg", 1, 2, loss).perplexity == f"guard perplexity {DIVERGED}"
    assert guard_curve(run) == ([], [])
    assert summarise(read_sweep(sweep_folder)).missing == ["seed-0/fedavg"]


def test_a_loss_that_was_not_measured_has_no_perplexity(write_run: Write, sweep_folder: Path) -> None:
    run = read_run(write_run(sweep_folder / "seed-0" / "fedavg", [3.0] * 4))

    assert simulate._peer(run, run.peers[0]).perplexity.local_best is None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, MAX_LOSS, 800.0])
def test_what_tells_nothing_has_diverged(loss: float) -> None:
    assert has_diverged(loss)
    assert not has_diverged(MAX_LOSS - 0.1)


def test_a_change_has_the_bound_of_losses_on_either_side() -> None:
    assert as_change(math.log(0.92)) == pytest.approx(-0.08)
    assert as_change(1e6) == as_change(MAX_LOSS) == pytest.approx(MAX_PERPLEXITY)
    assert as_change(-1e6) == pytest.approx(-1.0)
    assert better_and_worse([(3.0, 2.9), (3.0, 1e6), (3.0, 3.001)]) == (1, 1)
