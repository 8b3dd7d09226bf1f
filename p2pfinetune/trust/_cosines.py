"""Cosines between adapters, for schemes that compare weights: of the factors as moved, or of the products BA.

Nothing of the base's size is formed: <B_l A_l, B_r A_r>_F = tr(A_l^T B_l^T B_r A_r) = tr((B_l^T B_r)(A_r A_l^T)), and
both factors of that are rank by rank. Sums are in fp64, since a cosine of young adapters is a small difference of large
sums.

Shapes: i inputs and o outputs of a module, r and s the ranks of two adapters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter, FactorSet


def excluding(score: float) -> float:
    """Minus infinity for what is no finite number."""
    return score if math.isfinite(score) else -math.inf


def cosine(inner: float, own_square: float, their_square: float) -> float:
    """Zero if one of them is the zero vector: an adapter that has not moved is like no other, itself included."""
    norm = math.sqrt(own_square * their_square)
    return inner / norm if norm != 0.0 else 0.0


def inner_of_factors(left: FactorSet, right: FactorSet, layer: str = "") -> float:
    """Over all that both have, or over one layer of it."""
    names = (f"{layer}.lora_A", f"{layer}.lora_B") if layer else left.tensors
    return math.fsum(_inner(left.tensors[name], right.tensors[name]) for name in names if name in left.tensors)


def inner_of_products(left: Adapter, right: Adapter, layer: str = "") -> float:
    """Sum of <B_l A_l, B_r A_r>_F as tr((B_l^T B_r)(A_r A_l^T)): no matrix of the base's size. Or of one layer."""
    modules = [layer] if layer else [module for module, _, _ in left.pairs()]
    return math.fsum(_of_product(left.tensors, right.tensors, module) for module in modules)


def _of_product(left: Mapping[str, Tensor], right: Mapping[str, Tensor], module: str) -> float:
    a_ri, b_or = left[f"{module}.lora_A"], left[f"{module}.lora_B"]
    a_si, b_os = right[f"{module}.lora_A"], right[f"{module}.lora_B"]
    return _inner(b_or.double().T @ b_os.double(), a_ri.double() @ a_si.double().T)


def _inner(left: Tensor, right: Tensor) -> float:
    return float((left.double() * right.double()).sum())
