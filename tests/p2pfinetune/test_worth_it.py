"""The table of when collaboration is worth it: nested text, and what a cell says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.worth_it import beginning, cells, folder_of, put, sizes, table
from p2pfinetune.simulation.record import RESULT


def test_who_has_more_text_has_the_same_and_more() -> None:
    documents = [np.arange(n, dtype=np.uint16) for n in (700, 900, 800, 2000)]

    less, more = (np.concatenate(beginning(documents, tokens)) for tokens in (1000, 3000))

    assert (len(less), len(more)) == (1000, 3000)
    np.testing.assert_array_equal(more[:1000], less)
    assert sizes(6_000)["guard"] == 1024
    assert sizes(48_000)["guard"] == 4800
    with pytest.raises(ValueError, match="too little"):
        beginning(documents, 5000)


def test_a_cell_pairs_each_peer_with_itself_alone_and_has_the_seeds_that_are_complete(tmp_path: Path) -> None:
    def write(seed: int, like: int, losses: list[float]) -> None:
        folder = folder_of(tmp_path, 6_000, seed, like)
        folder.mkdir(parents=True)
        peers = {f"wiki-{i + 1}": {"loss": {"best": loss}} for i, loss in enumerate(losses)}
        (folder / RESULT).write_text(json.dumps({"peers": peers}))

    for seed in (0, 1):
        write(seed, 0, [3.0, 3.2, 9.0])
        write(seed, 1, [2.9 - 0.02 * seed, 3.2])
    write(2, 1, [2.0, 2.0])

    found = cells(tmp_path)

    assert found.keys() == {(6_000, 1)}
    assert found[6_000, 1].mean == pytest.approx(-0.055)
    assert found[6_000, 1].worst == 0.0
    assert "| 6,000 | -5.4 ± 0.7 % (+0.0 %) | - | - | - | 2 |" in table(found)


def test_figures_are_put_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end -->\nafter\n")

    put(page, ["new"])

    assert page.read_text() == "before\n<!-- figures -->\n\nnew\n\n<!-- end -->\nafter\n"
