"""The gradient of a mean loss with respect to one adapter, without a tensor of all logits.

Shapes: p numbers of an adapter, b windows, t tokens, n positions that count.
"""

from __future__ import annotations

import torch

from p2pfinetune.batched.stack import AdapterStack, row_of, tensors_of
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.compute import measuring_precision
from p2pfinetune.scoring.evaluate import PADDING, Measure


def gradient_of(stack: AdapterStack, adapter: Adapter, measure: Measure) -> Adapter:
    """dL/dA and dL/dB of the mean over all measured tokens, dropout off. The adapter's rank need not be the model's."""
    device, schema = stack.device, adapter.schema
    if schema.keys() != stack.adapted.schema.keys():
        raise ValueError("the adapter does not fit this model")
    values_p = row_of(schema, adapter.tensors).to(device)
    slopes_p = torch.zeros_like(values_p)
    try:
        stack.use(values_p.unsqueeze(0), slopes_p.unsqueeze(0), schema=schema)
        for batch in measure.batches:
            targets_bt = batch.targets_bt.to(device)
            is_real_bt = targets_bt != PADDING
            with measuring_precision(device, stack.adapted.precision):
                returned = stack.returned(batch.inputs_bt.to(device))
                losses_n = stack.output.losses(returned[is_real_bt], targets_bt[is_real_bt])
            (losses_n.sum() / measure.tokens).backward()
    finally:
        stack.release()
    return Adapter({name: slope.float().cpu().contiguous() for name, slope in tensors_of(schema, slopes_p).items()})
