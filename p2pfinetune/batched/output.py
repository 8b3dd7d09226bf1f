"""The output layer and its cross-entropy in chunks: the logits of all positions never exist at once.

A small model's logits are its largest tensor by far: 2,048 positions of GPT-2 are 400 MB in fp32, and the loss and its
gradient want as much again each. If nothing follows a model's output layer, which is found out by trying, the layer is
taken out of the model and run here, on positions that count only.

The output layer is frozen, so the loss has one gradient, with respect to the hidden states, and softmax minus one-hot
times the weight is that gradient. It is found in the forward pass, while a chunk's logits are at hand: recomputing them
in the backward pass would cost the product once more. Liger Kernel's fused linear cross-entropy (arXiv 2410.10989) does
the same on GPUs.

Shapes: n positions, d width of the model, v entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from p2pfinetune.model.compute import token_losses

ENTRIES = {"cpu": 1 << 20}  # logits at once: 4 MB, which a processor's cache holds
ENTRIES_ELSEWHERE = 1 << 26  # an accelerator wants large products
PROBE = 30.0  # far beyond what tanh or a clamp would leave as it is


class Output:
    """From what the model returns as logits, hidden states or logits indeed, to losses."""

    def __init__(self, model: Any) -> None:
        """Takes the output layer out of this model where it is the last thing that happens."""
        head = model.get_output_embeddings()
        self._head = head if isinstance(head, nn.Linear) and _is_last(model, head) else None
        if self._head is not None:
            model.set_output_embeddings(_Through())

    def logits(self, returned_nd: Tensor) -> Tensor:
        """(n, v) of positions that were chosen from what the model returned; no gradient."""
        if self._head is None:
            return returned_nd
        kind = returned_nd.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self._head.weight.dtype
        found: Tensor = self._head(returned_nd.to(dtype))
        return found

    def losses(self, returned_nd: Tensor, targets_n: Tensor) -> Tensor:
        """Cross-entropy of each position in nats, fp32, with a gradient where one is recorded."""
        if self._head is None:
            if torch.is_grad_enabled():
                return nn.functional.cross_entropy(returned_nd.float(), targets_n, reduction="none")
            return token_losses(returned_nd, targets_n)
        kind = returned_nd.device.type
        head = self._head
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
        hidden, weight_vd = returned_nd.to(dtype), head.weight.to(dtype)
        bias = None if head.bias is None else head.bias.to(dtype)
        with torch.autocast(kind, enabled=False):
            if torch.is_grad_enabled():
                found: Tensor = _ChunkedCrossEntropy.apply(hidden, weight_vd, bias, targets_n)  # type: ignore[no-untyped-call]
                return found
            parts = _chunks(hidden, weight_vd, targets_n)
            return torch.cat([_losses(nn.functional.linear(h, weight_vd, bias), targets) for h, targets in parts])


def _losses(logits_nv: Tensor, targets_n: Tensor) -> Tensor:
    # quicker than logsumexp, which makes several passes
    return -logits_nv.float().log_softmax(dim=1).gather(1, targets_n.unsqueeze(1)).squeeze(1)


def _chunks(hidden_nd: Tensor, weight_vd: Tensor, targets_n: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, ENTRIES.get(hidden_nd.device.type, ENTRIES_ELSEWHERE) // len(weight_vd))
    return zip(hidden_nd.split(rows), targets_n.split(rows), strict=True)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient of hidden states is found with the loss, so that a chunk's logits are computed once and dropped."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, weight_vd: Tensor, bias: Tensor | None, targets_n: Tensor) -> Tensor:
        """Losses of each position; the gradient is kept for the backward pass."""
        d_hidden_nd = torch.empty_like(hidden_nd)
        losses_n = torch.empty(len(hidden_nd), dtype=torch.float32, device=hidden_nd.device)
        place = 0
        for h, targets in _chunks(hidden_nd, weight_vd, targets_n):
            here, index = slice(place, place + len(h)), targets.unsqueeze(1)
            logits = nn.functional.linear(h, weight_vd, bias).float()
            chances = logits.softmax(dim=1)  # once: of log_softmax, the exponential would have to be taken again
            # the largest chance is at least 1 / v, so its logarithm is exact where that of the target's may not be
            log_sums = logits.amax(dim=1) - chances.amax(dim=1).log_()
            losses_n[here] = log_sums - logits.gather(1, index).squeeze(1)
            d_logits = chances.scatter_add_(1, index, chances.new_full(index.shape, -1.0))
            torch.mm(d_logits.to(h.dtype), weight_vd, out=d_hidden_nd[here])
            place += len(h)
        ctx.save_for_backward(d_hidden_nd)
        return losses_n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the hidden states alone: the output layer is frozen."""
        (d_hidden_nd,) = ctx.saved_tensors
        return (d_hidden_nd * gradients[0].unsqueeze(1).to(d_hidden_nd.dtype), None, None, None)


class _Through(nn.Identity):
    """In the place of the output layer; some families look at its bias when it is set."""

    bias = None


class _Constant(nn.Module):
    """An output layer that gives the same numbers whatever comes in."""

    bias = None

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, x: Tensor) -> Tensor:
        line = torch.linspace(-PROBE, PROBE, self._width, dtype=x.dtype, device=x.device)
        return line.expand(*x.shape[:-1], self._width)


def _is_last(model: Any, head: nn.Linear) -> bool:
    """Whether what the output layer gives is returned as it is, without scaling or capping.

    Not so if the model reads the layer's weight, as Mamba does: it then keeps its layer.
    """
    constant = _Constant(head.out_features)
    inputs = torch.zeros((1, 2), dtype=torch.int64, device=head.weight.device)
    model.set_output_embeddings(constant)
    try:
        with torch.no_grad():
            returned = model(input_ids=inputs, use_cache=False).logits
    except AttributeError:
        return False
    finally:
        model.set_output_embeddings(head)
    expected = constant(torch.zeros((1, 2, 1), dtype=returned.dtype, device=inputs.device))
    return returned.shape == expected.shape and bool(torch.allclose(returned, expected, atol=1e-5))
