"""Score several adapters on one split: what `write` and `evaluate` give one by one, within float tolerance.

Small passes hold several adapters, large ones one, whose factors are then added to the weights for the length of a
product. If the model allows it nothing is padded (`packing`); if not, padding does not reach the output layer. A round
measures its adapters on a few thousand tokens: short passes, of which overhead and padding are a large part.

Adapters of a smaller rank are widened with zeros, whose product is zero, so that several ranks share a pass.

Shapes: k adapters of a pass, p numbers of one, w windows, b of a padded batch, t tokens, n positions that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from p2pfinetune.batched.packing import Pack, packed, packs_of, returned
from p2pfinetune.batched.stack import AdapterStack, Schema, rows_of
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.model.compute import measuring_precision
from p2pfinetune.names import ROUTER, expert_of
from p2pfinetune.scoring.evaluate import PADDING, Batch, Evaluation, Measure, evaluation_of

POSITIONS = {"cpu": 2048}  # of a pass, of all its adapters together; as many as `evaluate` runs at once
POSITIONS_ELSEWHERE = 1 << 15
MAX_ROWS = 1 << 22  # numbers of all adapters that are held as rows once more for as long as they are measured

Scored = tuple[NDArray[np.float64], NDArray[np.int64]]
"""Sums of losses by adapter and window, and which window of the measure each is."""


def evaluate_distinct(
    adapted: AdaptedModel, adapters: Sequence[Adapter], measure: Measure, device: torch.device, stack: AdapterStack
) -> list[Evaluation]:
    """The same for adapters of which some are the very same object: each is measured once."""
    distinct = list({id(adapter): adapter for adapter in adapters}.values())
    found = evaluate_together(adapted, distinct, measure, device, stack=stack)
    by_adapter = {id(adapter): one for adapter, one in zip(distinct, found, strict=True)}
    return [by_adapter[id(adapter)] for adapter in adapters]


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
    schema = _widest(adapted.schema, adapters)
    rows = _RowsOfParts(schema, adapters, device)
    sums_kw = np.zeros((len(adapters), len(measure.per_window_tokens)), np.float64)
    with torch.inference_mode(), measuring_precision(device, adapted.precision):
        try:
            for score, positions in _passes(stack, measure):
                at_once = max(1, stack.positions(POSITIONS, POSITIONS_ELSEWHERE) // positions)
                for part in (slice(k, k + at_once) for k in range(0, len(adapters), at_once)):
                    values_kp = rows.of(part)
                    stack.use(values_kp, schema=schema)
                    losses_kw, windows_w = score(len(values_kp))
                    sums_kw[part, windows_w] = losses_kw
        finally:
            stack.release()
    return [evaluation_of(measure, sums_w) for sums_w in sums_kw]


def _passes(stack: AdapterStack, measure: Measure) -> Iterator[tuple[Callable[[int], Scored], int]]:
    """What to call with the number of adapters in the stack, and the positions of one adapter."""
    if stack.device.type == "cpu" and stack.packs:
        with packed(stack.model):
            for pack in packs_of(measure, stack.positions(POSITIONS, POSITIONS_ELSEWHERE)):
                yield partial(_packed_losses, stack, pack), len(pack.inputs_n)
    else:
        for batch in measure.batches:
            yield partial(_padded_losses, stack, batch), batch.inputs_bt.numel()


def _packed_losses(stack: AdapterStack, pack: Pack, adapters: int) -> Scored:
    hidden, counted_n = returned(stack.model, pack, adapters), pack.targets_n != PADDING
    if not counted_n.all():
        hidden = hidden[:, counted_n]
    losses_n = stack.output.losses(hidden.flatten(0, 1), pack.targets_n[counted_n].repeat(adapters)).double()
    losses_kn = losses_n.view(adapters, -1).numpy()
    counted = [int(window_n.sum()) for window_n in counted_n.split(pack.lengths)]
    starts = np.cumsum((0, *counted[:-1]))
    return np.add.reduceat(losses_kn, starts, axis=1), pack.windows_w


def _padded_losses(stack: AdapterStack, batch: Batch, adapters: int) -> Scored:
    targets_bt = batch.targets_bt.to(stack.device)
    is_real_bt = targets_bt != PADDING
    hidden = stack.returned(batch.inputs_bt.to(stack.device).repeat(adapters, 1)).unflatten(0, (adapters, -1))
    targets_n = targets_bt[is_real_bt]
    found = stack.output.losses(hidden[:, is_real_bt].flatten(0, 1), targets_n.repeat(adapters))
    losses_kbt = torch.zeros((adapters, *targets_bt.shape), dtype=torch.float32, device=stack.device)
    losses_kbt[:, is_real_bt] = found.view(adapters, -1)
    return losses_kbt.cpu().double().sum(dim=2).numpy(), batch.windows_b


class _RowsOfParts:
    """The adapters as rows of a matrix, with zeros up to the largest rank: of all at once, or of large ones as asked.

    A pass of a large model holds one adapter, and beside sixteen neighbours of it sixteen rows more would count.
    """

    def __init__(self, schema: Schema, adapters: Sequence[Adapter], device: torch.device) -> None:
        self._schema, self._adapters, self._device = schema, adapters, device
        numbers = len(adapters) * sum(shape[0] * shape[1] for shape in schema.values())
        self._all_kp = self._made(adapters) if numbers <= MAX_ROWS else None

    def of(self, part: slice) -> Tensor:
        return self._made(self._adapters[part]) if self._all_kp is None else self._all_kp[part]

    def _made(self, adapters: Sequence[Adapter]) -> Tensor:
        return rows_of(self._schema, [_widened(self._schema, adapter) for adapter in adapters]).to(self._device)


def _widest(own: Schema, adapters: Sequence[Adapter]) -> Schema:
    """The schema of the largest rank among them; several adapters in a layer have the ranks of this device for all."""
    if any(name.endswith(ROUTER) or expert_of(name) for name in own):
        return own
    rank = max(a.shape[0] for adapter in adapters for _, a, _ in adapter.pairs())
    return {name: (rank, shape[1]) if name.endswith(".lora_A") else (shape[0], rank) for name, shape in own.items()}


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
