"""Score several adapters on one split: what `write` and `evaluate` give one by one, within float tolerance.

Small passes hold several adapters, large ones one, whose factors are then added to the weights for the length of a
product. Only positions with something to predict reach the output layer, and that in chunks.

Shapes: k adapters of a pass, p numbers of one, b windows, t tokens, n positions that count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from p2pfinetune.adapter import AdaptedModel, Adapter
from p2pfinetune.batched.stack import AdapterStack, Schema, row_of
from p2pfinetune.compute import measuring_precision
from p2pfinetune.evaluate import PADDING, Batch, Evaluation, Measure
from p2pfinetune.guard import token_mean

POSITIONS = {"cpu": 512}  # of a pass over several adapters; with more of them, one at a time is as quick or quicker
POSITIONS_ELSEWHERE = 1 << 15


def evaluate_together(
    adapted: AdaptedModel,
    adapters: Sequence[Adapter],
    measure: Measure,
    device: torch.device,
    *,
    stack: AdapterStack | None = None,
) -> list[Evaluation]:
    """One evaluation of each. Ranks may differ; alpha / rank is that of the live model for all.

    A `stack` that is kept from call to call saves building one.
    """
    if not adapters:
        return []
    stack = stack if stack is not None else AdapterStack(adapted)
    schema, values_kp = _rows(adapted.schema, adapters)
    values_kp = values_kp.to(device)
    sums_kd = np.zeros((len(adapters), len(measure.per_document_tokens)), np.float64)
    with torch.inference_mode(), measuring_precision(device):
        try:
            for batch in measure.batches:
                for part in _parts(len(adapters), batch, device):
                    stack.use(values_kp[part], schema=schema)
                    losses_kb = _losses(stack, batch, len(values_kp[part]), device)
                    np.add.at(sums_kd[part], (slice(None), batch.documents_b), losses_kb)
        finally:
            stack.release()
    tokens = measure.per_document_tokens
    return [Evaluation(token_mean(row / tokens, tokens), measure.tokens, row / tokens, tokens) for row in sums_kd]


def _parts(count: int, batch: Batch, device: torch.device) -> list[slice]:
    """The adapters of each pass."""
    at_once = max(1, POSITIONS.get(device.type, POSITIONS_ELSEWHERE) // batch.inputs_bt.numel())
    return [slice(first, min(first + at_once, count)) for first in range(0, count, at_once)]


def _losses(stack: AdapterStack, batch: Batch, adapters: int, device: torch.device) -> NDArray[np.float64]:
    """Sum over the positions of each window, (k, b)."""
    targets_bt = batch.targets_bt.to(device)
    is_real_bt = targets_bt != PADDING
    returned = stack.returned(batch.inputs_bt.to(device).repeat(adapters, 1)).unflatten(0, (adapters, -1))
    targets_n = targets_bt[is_real_bt]
    found = stack.output.losses(returned[:, is_real_bt].flatten(0, 1), targets_n.repeat(adapters))
    losses_kbt = torch.zeros((adapters, *targets_bt.shape), dtype=torch.float32, device=device)
    losses_kbt[:, is_real_bt] = found.view(adapters, -1)
    sums: NDArray[np.float64] = losses_kbt.cpu().double().sum(dim=2).numpy()
    return sums


def _rows(own: Schema, adapters: Sequence[Adapter]) -> tuple[Schema, Tensor]:
    """The adapters as rows of one matrix, with zeros up to the largest rank, and the schema of that rank."""
    rank = max(a.shape[0] for adapter in adapters for _, a, _ in adapter.pairs())
    schema = {name: (rank, shape[1]) if name.endswith(".lora_A") else (shape[0], rank) for name, shape in own.items()}
    return schema, torch.stack([row_of(schema, _widened(schema, adapter)) for adapter in adapters])


def _widened(schema: Schema, adapter: Adapter) -> dict[str, Tensor]:
    if adapter.schema == schema:
        return dict(adapter.tensors)
    if adapter.tensors.keys() != schema.keys():
        raise ValueError("the adapter does not fit this model")
    found = {}
    for name, shape in schema.items():
        tensor = adapter.tensors[name]
        missing_rows, missing_columns = shape[0] - tensor.shape[0], shape[1] - tensor.shape[1]
        if (missing_rows if name.endswith(".lora_B") else missing_columns) or min(missing_rows, missing_columns) < 0:
            raise ValueError("the adapter does not fit this model")
        found[name] = functional.pad(tensor, (0, missing_columns, 0, missing_rows))
    return found
