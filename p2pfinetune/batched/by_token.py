"""Losses of several adapters at every token: what a mixture of their predictions is made of.

The probability that a mixture gives to the token that came is the weighted mean of those that its members give it, so
nobody needs their distributions: the loss of each member at each token is enough to learn weights and to measure them.

Passes are those of `measuring`, but all adapters share each, since a mixture has a few members at most.

Shapes: k adapters, w windows of the measure, n tokens that count, in an order of their own, one for all adapters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pfinetune.batched.measuring import POSITIONS, POSITIONS_ELSEWHERE
from p2pfinetune.batched.packing import Pack, packed, packs_of, returned
from p2pfinetune.batched.stack import AdapterStack, rows_of
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.compute import measuring_precision
from p2pfinetune.scoring.evaluate import PADDING, Batch, Measure

Part = tuple[Tensor, NDArray[np.int64]]
"""Losses (k, n) of some windows, and of each token its window."""


def losses_by_token(
    stack: AdapterStack, adapters: Sequence[Adapter], measure: Measure
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(k, n) in nats, and which window of the measure each token is of. All adapters have the live model's schema."""
    device, schema = stack.device, stack.adapted.schema
    with torch.inference_mode(), measuring_precision(device, stack.adapted.precision):
        try:
            stack.use(rows_of(schema, [adapter.tensors for adapter in adapters]).to(device), schema=schema)
            parts = [
                (losses_kn.double().cpu().numpy(), of_n) for losses_kn, of_n in _parts(stack, measure, len(adapters))
            ]
        finally:
            stack.release()
    return np.concatenate([losses for losses, _ in parts], axis=1), np.concatenate([of_n for _, of_n in parts])


def _parts(stack: AdapterStack, measure: Measure, adapters: int) -> Iterator[Part]:
    if stack.device.type == "cpu" and stack.packs:
        with packed(stack.model):
            for pack in packs_of(measure, max(1, stack.positions(POSITIONS, POSITIONS_ELSEWHERE) // adapters)):
                yield _of_pack(stack, pack, adapters)
    else:
        for batch in measure.batches:
            yield _of_batch(stack, batch, adapters)


def _of_pack(stack: AdapterStack, pack: Pack, adapters: int) -> Part:
    counted_n = pack.targets_n != PADDING
    hidden = returned(stack.model, pack, adapters)[:, counted_n]
    losses_n = stack.output.losses(hidden.flatten(0, 1), pack.targets_n[counted_n].repeat(adapters))
    tokens_w = [int(window_n.sum()) for window_n in counted_n.split(pack.lengths)]
    return losses_n.view(adapters, -1), np.repeat(pack.windows_w, tokens_w)


def _of_batch(stack: AdapterStack, batch: Batch, adapters: int) -> Part:
    targets_bt = batch.targets_bt.to(stack.device)
    is_real_bt = targets_bt != PADDING
    hidden = stack.returned(batch.inputs_bt.to(stack.device).repeat(adapters, 1)).unflatten(0, (adapters, -1))
    losses_n = stack.output.losses(hidden[:, is_real_bt].flatten(0, 1), targets_bt[is_real_bt].repeat(adapters))
    return losses_n.view(adapters, -1), np.repeat(batch.windows_b, is_real_bt.sum(dim=1).cpu().numpy())
