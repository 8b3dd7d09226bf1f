"""The output layer and its cross-entropy in chunks: the logits of all positions never exist at once.

A small model's logits are its largest tensor by far: 2,048 positions of GPT-2 are 400 MB in fp32, and the loss and its
gradient want as much again each. If nothing follows a model's output layer, which is found out by trying, the layer is
taken out of the model and run here, on positions that count only.

The output layer is frozen, so the loss has one gradient, with respect to the hidden states, and softmax minus one-hot
times the weight is that gradient. It is found in the forward pass, while a chunk's logits are at hand: recomputing them
in the backward pass would cost the product once more. Liger Kernel's fused linear cross-entropy (arXiv 2410.10989) does
the same on GPUs.

A chunk is some positions by some entries. Over a large vocabulary the sum of exponentials and the gradient are carried
from chunk to chunk relative to the largest logit so far, as FlashAttention does over keys (arXiv 2205.14135): positions
enough share each reading of a weight of hundreds of megabytes, and of one held in 16 bits a part at a time is made
fp32. Chunks of all entries but few positions read it once for every twenty positions.

Shapes: n positions, d width of the model, v entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from p2pfinetune.model.compute import token_losses
from p2pfinetune.model.held import parts_of

ENTRIES = {"cpu": 1 << 20}  # logits at once: 4 MB, which a processor's cache holds
ENTRIES_ELSEWHERE = 1 << 26  # an accelerator wants large products
WIDTH = {"cpu": 1 << 12}  # entries of the vocabulary at once
WIDTH_ELSEWHERE = 1 << 15
PROBE = 30.0  # far beyond what tanh or a clamp would leave as it is


class Output:
    """From what the model returns as logits, hidden states or logits indeed, to losses."""

    def __init__(self, model: Any, *, stays: bool = False) -> None:
        """Takes the output layer out of this model where it is the last thing that happens, unless it `stays`."""
        head = model.get_output_embeddings()
        self._head = head if not stays and isinstance(head, nn.Linear) and _is_last(model, head) else None
        if self._head is not None:
            model.set_output_embeddings(_Through())

    @property
    def is_chunked(self) -> bool:
        """Whether the logits of a pass never exist at once."""
        return self._head is not None

    def logits(self, returned_nd: Tensor) -> Tensor:
        """(n, v) of positions that were chosen from what the model returned; no gradient."""
        if self._head is None:
            return returned_nd
        found: Tensor = self._head(returned_nd.to(_numbers(returned_nd)))
        return found

    def losses(self, returned_nd: Tensor, targets_n: Tensor) -> Tensor:
        """Cross-entropy of each position in nats, fp32, with a gradient where one is recorded."""
        if self._head is None:
            if torch.is_grad_enabled():
                return nn.functional.cross_entropy(returned_nd.float(), targets_n, reduction="none")
            return token_losses(returned_nd, targets_n)
        hidden_nd = returned_nd.to(_numbers(returned_nd))
        with torch.autocast(hidden_nd.device.type, enabled=False):
            if torch.is_grad_enabled():
                found: Tensor = _ChunkedCrossEntropy.apply(hidden_nd, self._head, targets_n)  # type: ignore[no-untyped-call]
                return found
            head = self._head
            return torch.cat([_losses(h, head, targets) for h, targets in _rows(hidden_nd, targets_n, head)])


def _numbers(x: Tensor) -> torch.dtype:
    """In which products are computed."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _width(kind: str) -> int:
    return WIDTH.get(kind, WIDTH_ELSEWHERE)


def _rows(hidden_nd: Tensor, targets_n: Tensor, head: nn.Linear) -> Iterator[tuple[Tensor, Tensor]]:
    """Positions of one chunk after the other."""
    kind = hidden_nd.device.type
    rows = max(1, ENTRIES.get(kind, ENTRIES_ELSEWHERE) // min(_width(kind), head.out_features))
    return zip(hidden_nd.split(rows), targets_n.split(rows), strict=True)


class _Sums:
    """Of some positions over the vocabulary: largest logit so far, exponentials relative to it, logit of the target."""

    def __init__(self, hidden_nd: Tensor, head: nn.Linear, targets_n: Tensor) -> None:
        self._hidden_nd, self._head, self._targets_n = hidden_nd, head, targets_n
        self.most_n = torch.full(targets_n.shape, -torch.inf, device=hidden_nd.device)
        self.sum_n = torch.zeros(targets_n.shape, device=hidden_nd.device)
        self._target_n = torch.zeros(targets_n.shape, device=hidden_nd.device)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Some entries each time: their exponentials (n, v), weight (v, d), and what all before have to shrink by."""
        hidden_nd, head = self._hidden_nd, self._head
        for here, weight_vd in parts_of(head, hidden_nd.dtype, _width(hidden_nd.device.type)):
            bias = None if head.bias is None else head.bias[here].to(hidden_nd.dtype)
            logits_nv = linear(hidden_nd, weight_vd, bias).float()
            place_n = self._targets_n - here.start
            is_here_n = (place_n >= 0) & (place_n < len(weight_vd))
            found_n = logits_nv.gather(1, place_n.clamp(0, len(weight_vd) - 1).unsqueeze(1)).squeeze(1)
            self._target_n = torch.where(is_here_n, found_n, self._target_n)
            most_n = torch.maximum(self.most_n, logits_nv.amax(dim=1))
            shrink_n = (self.most_n - most_n).exp_()
            raised_nv = logits_nv.sub_(most_n.unsqueeze(1)).exp_()
            self.sum_n = self.sum_n.mul_(shrink_n).add_(raised_nv.sum(dim=1))
            self.most_n = most_n
            yield raised_nv, weight_vd, shrink_n

    def losses(self) -> Tensor:
        """Cross-entropy of each position, once all chunks were looked at."""
        return self.sum_n.log() + self.most_n - self._target_n


def _losses(hidden_nd: Tensor, head: nn.Linear, targets_n: Tensor) -> Tensor:
    sums = _Sums(hidden_nd, head, targets_n)
    for _ in sums.chunks():
        pass
    return sums.losses()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient of hidden states is found with the loss, so that a chunk's logits are computed once and dropped."""

    @staticmethod
    def forward(ctx: Any, hidden_nd: Tensor, head: nn.Linear, targets_n: Tensor) -> Tensor:
        """Losses of each position; the gradient is kept for the backward pass."""
        d_hidden_nd = torch.empty_like(hidden_nd)
        losses_n = torch.empty(len(hidden_nd), dtype=torch.float32, device=hidden_nd.device)
        place = 0
        for h, targets in _rows(hidden_nd, targets_n, head):
            here = slice(place, place + len(h))
            losses_n[here], d_hidden_nd[here] = _with_gradient(h, head, targets)
            place += len(h)
        ctx.save_for_backward(d_hidden_nd)
        return losses_n

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the hidden states alone: the output layer is frozen."""
        (d_hidden_nd,) = ctx.saved_tensors
        return (d_hidden_nd * gradients[0].unsqueeze(1).to(d_hidden_nd.dtype), None, None)


def _with_gradient(hidden_nd: Tensor, head: nn.Linear, targets_n: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and (expected row of the weight) - (the target's row), in fp32."""
    sums = _Sums(hidden_nd, head, targets_n)
    d_hidden_nd = torch.zeros(hidden_nd.shape, dtype=torch.float32, device=hidden_nd.device)
    for raised_nv, weight_vd, shrink_n in sums.chunks():
        d_hidden_nd.mul_(shrink_n.unsqueeze(1))
        if hidden_nd.dtype == torch.float32:
            d_hidden_nd.addmm_(raised_nv, weight_vd)
        else:
            d_hidden_nd.add_(torch.mm(raised_nv.to(hidden_nd.dtype), weight_vd))
    losses_n = sums.losses()
    rows_nd = nn.functional.embedding(targets_n, head.weight).float()
    return losses_n, d_hidden_nd.div_(sums.sum_n.unsqueeze(1)).sub_(rows_nd)


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
