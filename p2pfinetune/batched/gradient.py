"""The gradient of a mean loss with respect to one adapter or several, without a tensor of all logits.

What `trust.mixture`, `trust.first_order` and `round.pairs` ask for. It goes by windows of a measure like scoring, and
through the stack and its chunked output layer like training, so it takes the memory of one training pass. The mean is
over all tokens of the measure: each batch adds its sum of losses over the number of all tokens, and the parts add up in
the buffer.

Shapes: k adapters of a pass, p numbers of one, b windows, t tokens, n positions that count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import torch
from torch import Tensor

from p2pfinetune.batched.stack import AdapterStack, row_of, tensors_of
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.compute import measuring_precision, seeded
from p2pfinetune.scoring.evaluate import PADDING, Measure

POSITIONS = {"cpu": 2048}  # of a pass, of all its adapters together
POSITIONS_ELSEWHERE = 1 << 15


def gradient_of(stack: AdapterStack, adapter: Adapter, measure: Measure) -> Adapter:
    """dL/dA and dL/dB of the mean over all measured tokens, dropout off. The adapter's rank need not be the model's."""
    return gradients_of(stack, [adapter], measure)[0]


def gradients_of(
    stack: AdapterStack, adapters: Sequence[Adapter], measure: Measure, *, noise: int | None = None
) -> list[Adapter]:
    """Of each by itself. Neighbours in the list that have one rank share passes, as far as these are small.

    `noise`: with dropout on, drawn from this seed, for each adapter anew; then they share no passes.
    """
    if noise is not None and stack.is_noisy:
        found = []
        for adapter in adapters:
            with _noisy(stack, noise):
                found += _together(stack, [adapter], measure)
        return found
    most = stack.positions(POSITIONS, POSITIONS_ELSEWHERE)
    at_once = max(1, most // max(batch.inputs_bt.numel() for batch in measure.batches))
    found = []
    for _, alike in groupby(adapters, key=lambda adapter: adapter.schema):
        group = [*alike]
        for k in range(0, len(group), at_once):
            found += _together(stack, group[k : k + at_once], measure)
    return found


@contextmanager
def _noisy(stack: AdapterStack, seed: int) -> Iterator[None]:
    with stack.with_dropout(), seeded(seed, stack.device):
        yield


def _parts(measure: Measure, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of its batches, in parts of so many positions or of one row."""
    for batch in measure.batches:
        rows = max(1, most // batch.inputs_bt.shape[1])
        yield from zip(batch.inputs_bt.split(rows), batch.targets_bt.split(rows), strict=True)


def _together(stack: AdapterStack, adapters: Sequence[Adapter], measure: Measure) -> list[Adapter]:
    device, schema, count = stack.device, adapters[0].schema, len(adapters)
    if schema.keys() != stack.adapted.schema.keys():
        raise ValueError("the adapter does not fit this model")
    values_kp = torch.stack([row_of(schema, adapter.tensors) for adapter in adapters]).to(device)
    slopes_kp = torch.zeros_like(values_kp)
    try:
        stack.use(values_kp, slopes_kp, schema=schema)
        for inputs_bt, wanted_bt in _parts(measure, stack.positions(POSITIONS, POSITIONS_ELSEWHERE)):
            targets_bt = wanted_bt.to(device).repeat(count, 1)
            is_real_bt = targets_bt != PADDING
            with measuring_precision(device, stack.adapted.precision):
                returned = stack.returned(inputs_bt.to(device).repeat(count, 1))
                losses_n = stack.output.losses(returned[is_real_bt], targets_bt[is_real_bt])
            (losses_n.sum() / measure.tokens).backward()
    finally:
        stack.release()
    parts = [tensors_of(schema, slopes_p) for slopes_p in slopes_kp]
    return [Adapter({name: slope.float().cpu().contiguous() for name, slope in part.items()}) for part in parts]
