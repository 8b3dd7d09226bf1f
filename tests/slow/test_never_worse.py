"""What docs/reproduction/never-worse.md claims, on one setting and a seed that nothing was chosen on."""

from __future__ import annotations

from statistics import fmean

import pytest

SEED = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def peers(data, tmp_path_factory):
    """Each against training alone."""
    import torch

    from benchmarks.never_worse import of_simulation, setting_config
    from p2pfinetune.simulation.run import simulate

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("never-worse") / f"seed-{SEED}"
    return of_simulation(simulate(setting_config("languages", "specific", data, SEED), folder))


def test_nobody_is_worse_than_alone_beyond_its_interval_and_the_mean_is_better(peers):
    assert [peer.name for peer in peers if peer.low > 0] == []
    assert fmean(peer.nats for peer in peers) < 0


def test_every_peer_is_measured_on_enough_text(peers):
    assert min(peer.tokens for peer in peers) >= 20_000


def test_the_table_counts_who_is_better_who_is_worse_and_of_whom_neither_can_be_said():
    from benchmarks.never_worse import Peer, row

    better, worse, neither = (
        Peer("a", 20_000, -0.1, -0.12, -0.08),
        Peer("b", 20_100, 0.05, 0.02, 0.08),
        Peer("c", 20_200, 0.0, -0.1, 0.1),
    )
    found = [cell.strip() for cell in row("x", {0: [better, worse], 1: [neither, better]}).split("|")]

    assert found[2:4] == ["4 (2 seeds)", "20,000"]
    assert found[5:8] == ["2", "1", "1 (25%)"]
    assert found[8:10] == ["+5.1 %", "+5.1 % (+2.0 to +8.3 %)"]
