"""Trust rows of a run as matrices by round, written beside its metrics.

The matrix W of arXiv 2404.09753 exists nowhere while a run goes on, since each peer knows its own row; here the rows
are put side by side for people to look at. Row i is peer i's at the end of its own round r; peers of an asynchronous
run reach that round at different times.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2pfinetune.compare.folders import Run, read_run

FILE = "trust.npz"
Matrices = npt.NDArray[np.float64]


def trust_matrices(run: Run) -> Matrices:
    """(rounds, peers, peers); row i is how much peer i weighs each peer. NaN if a peer did not merge.

    Round r stands at index r - 1. A peer that was not heard weighs nothing: it stands as 0, not as NaN.
    """
    index = {peer: i for i, peer in enumerate(run.peers)}
    rounds = max((line.round for line in run.lines), default=0)
    found = np.full((rounds, len(index), len(index)), np.nan)
    for line in run.lines:
        if line.row is not None and line.peer in index and line.round >= 1:
            found[line.round - 1, index[line.peer]] = 0.0
            for peer, weight in line.row.items():
                found[line.round - 1, index[line.peer], index[peer]] = weight
    return found


def merged_rounds(matrices: Matrices) -> list[int]:
    """Indices of rounds in which anybody merged."""
    return [int(r) for r in np.flatnonzero(~np.isnan(matrices).all(axis=(1, 2)))] if matrices.size else []


def write_trust_matrices(folder: Path) -> Path:
    """`trust.npz` with `trust`, the `peers` in order, the `categories` and the peers' `shares`."""
    run = read_run(folder)
    path = folder / FILE
    np.savez_compressed(
        path,
        trust=trust_matrices(run),
        peers=np.array(run.peers, dtype=np.str_),
        categories=np.array(run.population.categories, dtype=np.str_),
        shares=np.array([shape.shares for shape in run.population.peers.values()], dtype=np.float64),
    )
    return path
