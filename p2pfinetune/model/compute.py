"""How the model is run, for training and measuring alike: precision, memory and dropout. Holds no state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from p2pfinetune.model.precision import Precision

MAX_LOGITS = 1 << 27  # entries of one forward pass: 512 MB in fp32, the largest tensor by far with big vocabularies
CHUNK = 256  # positions whose log-sum-exp is taken at once, so that the temporaries stay in the processor's cache


def rows_at_once(length: int, vocabulary: int) -> int:
    """How many sequences of `length` tokens one forward pass may hold without its logits passing MAX_LOGITS."""
    return max(1, MAX_LOGITS // (length * vocabulary))


def training_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """With bf16, products of matrices are computed in it; weights of the adapter, moments and losses stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def measuring_precision(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """As in training on CUDA; fp32 on the CPU always: merges are judged by differences of a thousandth of a nat."""
    return training_precision(device, precision) if device.type == "cuda" else nullcontext()


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, afterwards as it was; the released code of the paper measured with dropout."""
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in were_training:
            module.training = True


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators, which dropout draws from, start at `seed` inside and are as before afterwards."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


def next_token_logits(model: Any, inputs_bt: Tensor) -> Tensor:
    """(b, t, vocabulary). Rows may be padded on the right: a causal model never looks there, so no mask is needed."""
    logits: Tensor = model(input_ids=inputs_bt, use_cache=False).logits
    return logits


def token_losses(logits_nv: Tensor, targets_n: Tensor) -> Tensor:
    """Cross-entropy in nats of each position, fp32, without a second tensor of the size of the logits. No gradient."""
    losses = [
        logits.float().logsumexp(dim=1) - logits.gather(1, targets.unsqueeze(1)).squeeze(1).float()
        for logits, targets in zip(logits_nv.split(CHUNK), targets_n.split(CHUNK), strict=True)
    ]
    return torch.cat(losses)
