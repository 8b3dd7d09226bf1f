"""How the model is run, for training and measuring alike: precision, memory and dropout. Holds no state.

Three decisions stand here, once each, so that no caller can differ. Dropout is off whenever anything is measured (the
released code of arXiv 2404.09753 leaves attention's on, so its perplexities are noisy and too high). Scores on a CPU
are fp32 even if training is bf16, since a guard's decision turns on thousandths of a nat. And no pass holds more logits
than MAX_LOGITS: for a vocabulary of 150,000 entries they are larger than everything else together.

Shapes: b rows, t tokens, n positions, v entries of the vocabulary, as in `model`.
"""

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
    """How many sequences of `length` tokens one forward pass may hold: MAX_LOGITS entries at most, but one row."""
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
    """(b, t) token ids in, (b, t, v) out: at t what follows token t.

    Rows may be padded on the right: a causal model never looks there, so no mask is needed.
    """
    logits: Tensor = model(input_ids=inputs_bt, use_cache=False).logits
    return logits


def token_losses(logits_nv: Tensor, targets_n: Tensor) -> Tensor:
    """Cross-entropy (n,) in nats of each position, fp32, without a second tensor of the size of the logits.

    logsumexp(z) - z[target], a chunk of positions at a time; torch's own makes all of log_softmax first. No gradient.
    """
    losses = [
        logits.float().logsumexp(dim=1) - logits.gather(1, targets.unsqueeze(1)).squeeze(1).float()
        for logits, targets in zip(logits_nv.split(CHUNK), targets_n.split(CHUNK), strict=True)
    ]
    return torch.cat(losses)
