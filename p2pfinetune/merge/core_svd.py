"""Core SVD: the merge rule that is exact in the products, up to the rank.

The sum of weighted products has rank n r, and an adapter has room for r: the nearest one of rank r is the truncated
singular value decomposition (Eckart and Young 1936). FlexLoRA (arXiv 2402.11505) takes it of the dense product; the
same result comes out of the core of two thin QR decompositions, as in FLoRIST (arXiv 2506.09199) and Core Space (arXiv
2509.17786), at O((in + out)(n r)^2 + (n r)^3).

Which A and B stand for that product is free: B G^-1 and G A are the same product for any invertible G, its gauge. A
plain SVD chooses one at random as far as training is concerned. Here the gauge nearest to the own A is taken, so that
the next step trains about the same coordinates; moments are reset all the same, since they belong to the coordinates
before.

Ranks may differ: the sum of products has the sum of all ranks, whichever these are, and every peer cuts it at its own.
That is FlexLoRA. Stacking (FLoRA, Wang et al. 2024, arXiv 2409.05976: [w_1 A_1; ...] under [B_1, ...]) is the same sum
before any cut. FLoRA adds it to the base, whose weights are then nobody else's; who keeps the base has to compress the
stack, and the best compression to a rank is this rule. So there is no other rule for it, but a threshold (`energy`), as
FLoRIST has one: it cuts where little is left, at fewer components than there is room for.

The trade-off: exact where the factor mean is not, but more work, both factors rewritten, and what lies beyond rank r is
lost, anew in each round. docs/adr/0004 has the comparison that made the factor mean the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from p2pfinetune.merge._base import MergeRule
from p2pfinetune.merge._products import stack_factors
from p2pfinetune.names import PeerId, Sharing, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter

ZERO = 1e-12  # singular values below this part of the largest are rounding
SPREAD = 10.0  # largest condition number of the change of gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSvd(MergeRule):
    """The best adapter of the own rank for the weighted sum of products BA (Eckart and Young), in the own gauge.

    Two thin QR decompositions and one small SVD, as in FLoRIST and Core Space; no product is ever formed. The factors
    of a product are free up to a change of gauge; the one nearest to the own A is chosen, so that peers which share
    their A get the mean of B. The optimizer's moments are reset.
    energy: keep the fewest components that hold this part of the sum's squared norm, at most the own rank; 1: as many
    as fit. What is left free begins anew from the own A.
    """

    energy: float = 1.0

    resets_moments: ClassVar[bool] = True
    by_layer: ClassVar[bool] = True
    on_products: ClassVar[bool] = True
    any_rank: ClassVar[bool] = True
    sharings: ClassVar[tuple[Sharing, ...]] = (
        "both",
    )  # it writes both factors anew, and no component is what it was at others

    def __post_init__(self) -> None:
        if not 0.0 < self.energy <= 1.0:
            raise ValueError("energy is a part: above 0, and at most 1")

    def merge(self, row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter) -> Adapter:
        """Computed in fp64, peers in sorted order; of the rank of `own`, whatever theirs are."""
        weighed = [peer for peer, weight in row.weights.items() if weight > 0.0]
        if len(weighed) == 1 and adapters[weighed[0]].schema == own.schema:  # its weight is one up to rounding
            return adapters[weighed[0]]
        tensors = {}
        for path, own_a, _ in own.pairs():
            left, right = _best_rank(*stack_factors(row, adapters, path), own_a.double(), self.energy)
            a, b = _in_gauge_of(own_a.double(), left, right)
            tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"] = a.float(), b.float()
        return type(own)(tensors)


def _best_rank(b: Tensor, a: Tensor, own_a: Tensor, energy: float) -> tuple[Tensor, Tensor]:
    """(out, m) and orthonormal (m, in), m at most the own rank, whose product is nearest to B A.

    Directions that the product does not use are filled from the own A: factors that are both zero would never train.
    """
    import torch

    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    rank = own_a.shape[0]
    used = min(rank, int((s > ZERO * s[0]).sum()), _needed(s, energy))
    left, right = q_b @ (u[:, :used] * s[:used]), vt[:used] @ q_a.T
    spare = min(rank, own_a.shape[1]) - used
    if spare > 0:
        rest = torch.linalg.svd(own_a - own_a @ right.T @ right, full_matrices=False).Vh[:spare]
        right = torch.cat([right, rest], dim=0)
        left = torch.cat([left, left.new_zeros((left.shape[0], spare))], dim=1)
    return left, right


def _needed(s: Tensor, energy: float) -> int:
    """How many of these singular values hold that part of the sum of their squares."""
    if energy == 1.0:
        return len(s)
    held = s.square().cumsum(dim=0)
    return int((held < energy * held[-1]).sum()) + 1


def _in_gauge_of(own_a: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A = G right and B = left G^+ with G the change of gauge that brings A nearest to the own A and stays invertible.

    Without the lower bound on its singular values G would be the least-squares fit; with all of them equal it would be
    the orthogonal Procrustes rotation.
    """
    import torch

    x, g, yt = torch.linalg.svd(own_a @ right.T, full_matrices=False)
    g = g.clamp(min=float(g[0]) / SPREAD) if g[0] > 0 else torch.ones_like(g)
    return (x * g) @ yt @ right, left @ (yt.T / g) @ x.T
