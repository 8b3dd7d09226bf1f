"""Adapters as rows of one matrix, for rules that look at whole adapters or at each entry by itself.

Shapes: n peers that weigh something, p entries of an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.adapter import Adapter


def vectors(row: TrustRow, adapters: Mapping[PeerId, Adapter]) -> tuple[Tensor, Tensor]:
    """(n, p) adapters and (n,) weights in fp64, in the order of the names, so that no other order matters."""
    import torch

    heard = [peer for peer, weight in sorted(row.weights.items()) if weight > 0.0]
    found_np = torch.stack([adapters[peer].vector().double() for peer in heard])
    weights_n = torch.tensor([row.weights[peer] for peer in heard], dtype=torch.float64)
    return found_np, weights_n / weights_n.sum()


def adapter_of(vector_p: Tensor, like: Adapter) -> Adapter:
    """The adapter with these entries and the schema of another."""
    sizes = [tensor.numel() for tensor in like.tensors.values()]
    parts = zip(like.tensors.items(), vector_p.float().split(sizes), strict=True)
    return type(like)({name: part.reshape(tensor.shape).clone() for (name, tensor), part in parts})


def squared_distances(vectors_np: Tensor) -> Tensor:
    """(n, n), exact enough to be compared: differences first, then squares."""
    import torch

    return torch.stack([(vectors_np - vector_p).square().sum(dim=1) for vector_p in vectors_np])
