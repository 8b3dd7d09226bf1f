"""Which adapter lies in the thick of the others: the score that Krum and Multi-Krum share.

An adapter's score is the sum of squared distances to its n - f - 2 nearest others, f being how many may be hostile
(Blanchard et al. 2017, arXiv 1703.02757). So many honest neighbours a peer has in any case, and a liar that
wants a low score has to lie where the honest are. The guarantee needs n > 2 f + 2: among four peers with one liar it is
not given, and there the score is a heuristic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfinetune.merge._vectors import squared_distances, vectors
from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


def check(hostile: float) -> None:
    """Raises ValueError if `hostile`, a part of the peers, is not in [0, 0.5): no rule survives a majority of liars."""
    if not 0.0 <= hostile < 0.5:
        raise ValueError("hostile is the part of the peers that may lie: at least 0 and below 0.5")


def ranked(row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter, hostile: float) -> list[PeerId]:
    """All peers that weigh something, the most central first (Blanchard et al. 2017, arXiv 1703.02757).

    The score is the sum of squared distances to the n - f - 2 nearest, f being the hostile part of n; the adapter that
    is nearer to the own one is preferred if scores are equal.
    """
    import torch

    heard = sorted(peer for peer, weight in row.weights.items() if weight > 0.0)
    vectors_np, _ = vectors(row, adapters)
    near = max(1, len(heard) - math.floor(hostile * len(heard)) - 2)
    squares_nn = squared_distances(vectors_np).sort(dim=1).values
    scores_n = squares_nn[:, 1 : near + 1].sum(dim=1)
    from_own_n = torch.linalg.vector_norm(vectors_np - own.vector().double(), dim=1)
    places = sorted(range(len(heard)), key=lambda i: (float(scores_n[i]), float(from_own_n[i]), heard[i]))
    return [heard[i] for i in places]
