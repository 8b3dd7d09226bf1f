"""Sums of low-rank products BA, without ever forming one: everything happens in the core of two QR decompositions.

A sum of n products of rank r is one product of rank n r: [sqrt(w_1) B_1, ..., sqrt(w_n) B_n] times the A stacked alike.
With B = Q_b R_b and A^T = Q_a R_a its norm is that of the small R_b R_a^T, (n r, n r), since orthonormal columns change
no norm. A dense product of GPT-2's attention would be 768 x 2304; this core is 32 x 32 for 8 peers of rank 4.

The square root puts half of a weight on either factor, so that neither is scaled to nothing by a small weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter


def stack_factors(row: TrustRow, adapters: Mapping[PeerId, Adapter], path: str) -> tuple[Tensor, Tensor]:
    """B (out, N rank) and A (N rank, in) in fp64 whose product is the weighted sum of BA; peers in sorted order."""
    import torch

    weighed = sorted((peer, weight) for peer, weight in row.weights.items() if weight > 0.0)
    factors = [(adapters[peer].tensors, math.sqrt(weight)) for peer, weight in weighed]
    b = torch.cat([tensors[f"{path}.lora_B"].double() * root for tensors, root in factors], dim=1)
    a = torch.cat([tensors[f"{path}.lora_A"].double() * root for tensors, root in factors], dim=0)
    return b, a


def product_norm(b: Tensor, a: Tensor) -> float:
    """Frobenius norm of B A, free of cancellation."""
    import torch

    core_b, core_a = torch.linalg.qr(b, mode="r").R, torch.linalg.qr(a.T, mode="r").R
    return float(torch.linalg.matrix_norm(core_b @ core_a.T))


def product_error(row: TrustRow, adapters: Mapping[PeerId, Adapter], merged: Adapter) -> float:
    """How far a merge is from the weighted sum of products: ||sum w BA - B A|| / ||sum w BA||, over all targets."""
    import torch

    missed = wanted = 0.0
    for path, a, b in merged.pairs():
        sum_b, sum_a = stack_factors(row, adapters, path)
        wanted += product_norm(sum_b, sum_a) ** 2
        missed += product_norm(torch.cat([sum_b, -b.double()], dim=1), torch.cat([sum_a, a.double()], dim=0)) ** 2
    if wanted == 0.0:
        return 0.0 if missed == 0.0 else math.inf
    return math.sqrt(missed / wanted)
