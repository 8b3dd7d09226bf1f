"""Adapters as rows of one matrix, for rules that look at whole adapters or at each entry by itself.

Such rules treat A and B as one vector in which every entry counts alike, as the literature does with a gradient. They
see factors and not products, so what they bound is the distance of factors; `merge` says when the two are close.

Shapes: n peers of positive weight, p entries of an adapter, as in `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter


ROUNDING = 1e-9  # of a weight


def vectors(row: TrustRow, adapters: Mapping[PeerId, Adapter]) -> tuple[Tensor, Tensor]:
    """(n, p) adapters and (n,) weights in fp64, in the order of the names, so that no other order matters."""
    import torch

    heard = [peer for peer, weight in sorted(row.weights.items()) if weight > 0.0]
    found_np = torch.stack([adapters[peer].vector().double() for peer in heard])
    weights_n = torch.tensor([row.weights[peer] for peer in heard], dtype=torch.float64)
    return found_np, weights_n / weights_n.sum()


def adapter_of(vector_p: Tensor, like: Adapter) -> Adapter:
    """The adapter with these (p,) entries, rounded to fp32, and the schema of another."""
    sizes = [tensor.numel() for tensor in like.tensors.values()]
    parts = zip(like.tensors.items(), vector_p.float().split(sizes), strict=True)
    return type(like)({name: part.reshape(tensor.shape).clone() for (name, tensor), part in parts})


def squared_distances(vectors_np: Tensor) -> Tensor:
    """(n, n), exact enough to be compared: differences first, then squares.

    |x|^2 + |y|^2 - 2 <x, y> would be one product of matrices, and cancel: adapters of one start differ by little.
    """
    import torch

    return torch.stack([(vectors_np - vector_p).square().sum(dim=1) for vector_p in vectors_np])


def middle_mean(vectors_np: Tensor, weights_n: Tensor, *, trimmed: float) -> Tensor:
    """(p,) of each entry, the mean over the middle of the sorted values; for 0.5 the median.

    Sorted values lie side by side on [0, 1], each as wide as its weight; what is inside [trimmed, 1 - trimmed] counts.
    """
    values_np, order_np = vectors_np.sort(dim=0)
    ends_np = weights_n[order_np].cumsum(dim=0)
    begins_np = ends_np - weights_n[order_np]
    low, high = trimmed, 1.0 - trimmed
    if high - low < ROUNDING:  # so narrow that it would fall between two values
        low, high = 0.5 - ROUNDING, 0.5 + ROUNDING
    inside_np = (ends_np.clamp(max=high) - begins_np.clamp(min=low)).clamp(min=0.0)
    return (values_np * inside_np).sum(dim=0) / inside_np.sum(dim=0)
