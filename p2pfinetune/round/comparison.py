"""What the updates of one round say of each other: who is absurdly large beside the others, and who copies whom.

Every update of the list has passed every check of its own already (`update.inspect`). Here stands what only a
comparison shows. An outlier is left out of the round. A copy harms nobody by itself, so it is told and not refused.
Both need no more than the inner products of the deltas, which are summed tensor by tensor: no stack of whole adapters.

The bound on lengths is relative, since nobody knows how far a delta has come by round k: a fixed one is either so high
that a scaled update passes (`update.default_max_norm` is that one, against absurd values) or refuses a whole network
that trains longer. It stops what makes itself heard by size; directions are for the trust scheme and the guard.

Shapes: n deltas of a round, p entries of one tensor of them.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId, Refusal

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import FactorSet

NORM_OUTLIER = "norm-outlier"
FACTOR = 5.0
"""Honest peers of one round differ by some percent. Who joins late is shorter, which harms nobody. Only a veteran among
newcomers is longer: with stories260k a delta measures 0.5 after 10 steps, 3.4 after 30, 7.0 after 100, 15 after 1000
and 19 after 2000; so newcomers hear it from their third round of 20 steps on."""
COPY_COSINE = 1.0 - 4e-6
"""Writing an update anew, scaled, as bf16 turns it by 1 - cos = 1.4e-6. The nearest that honest peers came, all with
all in lock step and uniform weights, was 4.5e-4 after twelve rounds of 5 steps, and 3e-5 after forty of a single step
(stories260k, peers of three languages). A copy with noise on top is not found; such noise costs its author."""


def norm_outliers(own: FactorSet, updates: Mapping[PeerId, FactorSet]) -> dict[PeerId, Refusal]:
    """Whose delta is longer than FACTOR times the larger of the own delta and the median of all, own included.

    The own length counts, so that a crowd of small ones cannot have an honest peer of my own size refused; the median,
    so that a newcomer with next to nothing of its own hears its neighbours. One neighbour alone is never an outlier:
    two lengths say nothing about which of them is odd.
    """
    mine = own.norm()
    lengths = {peer: delta.norm() for peer, delta in updates.items()}
    usual = max(mine, statistics.median([mine, *lengths.values()]))
    return {
        peer: Refusal(NORM_OUTLIER, f"{length:.3g}, at most {FACTOR:g} times {usual:.3g}")
        for peer, length in lengths.items()
        if length > FACTOR * usual
    }


def copies(deltas: Mapping[PeerId, FactorSet]) -> tuple[tuple[PeerId, PeerId], ...]:
    """Pairs, in the order of their names, whose deltas point the same way: identical, rounded or scaled.

    Who of the two copied, nobody can tell from this; the one heard later is the more likely copy.
    """
    import torch

    peers = sorted(deltas)
    if len(peers) < 2:  # a pair
        return ()
    inner_nn = inner_products([deltas[peer] for peer in peers])
    lengths_n = inner_nn.diagonal().sqrt()
    like_nn = inner_nn >= COPY_COSINE * torch.outer(lengths_n, lengths_n)
    moved = [bool(length > 0.0) for length in lengths_n]  # who has not moved is a copy of nobody
    pairs = itertools.combinations(range(len(peers)), 2)
    return tuple((peers[i], peers[j]) for i, j in pairs if moved[i] and moved[j] and bool(like_nn[i, j]))


def inner_products(deltas: list[FactorSet]) -> Tensor:
    """(n, n) in fp64."""
    import torch

    total_nn = torch.zeros((len(deltas), len(deltas)), dtype=torch.float64)
    for name in deltas[0].tensors:
        rows_np = torch.stack([delta.tensors[name].reshape(-1) for delta in deltas]).double()
        total_nn += rows_np @ rows_np.T
    return total_nn
