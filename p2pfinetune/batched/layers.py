"""A layer with the adapters of several peers, and its gradient.

Rows of a pass belong to the peers in equal parts and in order: the first m to the first peer, and so on. The base's
weight is applied to all of them at once and each peer's factors to its own, so the peers' gradients never meet: what
multi-tenant serving does with LoRA (Punica, arXiv 2310.18547; S-LoRA, arXiv 2311.03285), done here for training too.

Gradients are added to the stack's buffers inside the backward pass, and autograd never sees the factors: thousands of
small tensors are not made, added up and dropped. The first layer's input asks for no gradient, so autograd would not
call its backward pass at all; hence every layer also takes a scalar that asks for one, the tape.

For y = x W^T + s x' A^T B^T with upstream gradient dy, and u = x' A^T; x' is x, or what dropout leaves of it:

    dB^T = s u^T dy        du = s dy B        dA = du^T x'       dx = dy W + d(du A), where d is dropout's own gradient

A weight that is held in other numbers than those of the pass is made anew in the backward pass and not kept for it.

A layer with several adapters for each peer is in `mixtures`.

Shapes: k peers, m rows of each, i inputs, o outputs, r rank. B is kept as its transpose: products with a narrow matrix
are several times quicker along its rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from p2pfinetune.batched.mixtures import Factors, MixedFactors, mixed
from p2pfinetune.model.held import weight_of

FOLD_ROWS = (
    8  # times the rank: with more rows, adding B A to the weight is less work than running A and B by themselves
)


class StackedLinear(nn.Module):
    """In the place of a linear layer or Conv1D; its weight is the same tensor."""

    def __init__(self, base: Any, scale: float, dropout: float, tape: Tensor) -> None:
        super().__init__()
        self._base = base
        self._scale, self._dropout, self._tape = scale, dropout, tape
        self.factors: Factors | MixedFactors | None = None

    def forward(self, x: Tensor) -> Tensor:
        """What the base gives and x A^T B^T; the base's alone while there are no factors."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        with torch.autocast(kind, enabled=False):
            return self._of(x.to(dtype))

    def _of(self, x: Tensor) -> Tensor:
        bias = None if self._base.bias is None else self._base.bias.to(x.dtype)
        if self.factors is None:
            return linear(x, weight_of(self._base, x.dtype), bias)
        if isinstance(self.factors, MixedFactors):
            kept = self._kept(x) if self._dropout and self.training and torch.is_grad_enabled() else None
            return mixed(x, self._base, bias, self.factors, self._scale, kept, self._tape)
        if torch.is_grad_enabled():
            kept = self._kept(x) if self._dropout and self.training else None
            inputs = (x, self._base, bias, self.factors, self._scale, kept, self._tape)
            stacked: Tensor = _Stacked.apply(*inputs)  # type: ignore[no-untyped-call]
            return stacked
        weight_oi = weight_of(self._base, x.dtype)
        peers, rank, _ = self.factors.a_kri.shape
        is_exact = x.dtype == torch.float32  # in 16 bits, a small change of a weight would be rounded away
        if peers == 1 and is_exact and x.numel() // x.shape[-1] > FOLD_ROWS * rank:
            a_ri, b_ro = self.factors.a_kri[0], self.factors.b_kro[0]
            return linear(x, torch.addmm(weight_oi, b_ro.T, a_ri, alpha=self._scale), bias)
        return _run(x, weight_oi, bias, self.factors, self._scale, None)[0]

    def _kept(self, x: Tensor) -> Tensor:
        """What dropout leaves of the adapter's input: the factor of each number, zero or so much more than one."""
        share = 1.0 - self._dropout
        return torch.empty_like(x).bernoulli_(share).div_(share)


def _run(
    x: Tensor, weight_oi: Tensor, bias: Tensor | None, factors: Factors, scale: float, kept: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The output; x as the adapter sees it, and its product with A, by peer."""
    a_kri, b_kro = factors.a_kri.to(x.dtype), factors.b_kro.to(x.dtype)
    x_kmi = (x if kept is None else x * kept).reshape(len(a_kri), -1, x.shape[-1])
    inner_kmr = torch.bmm(x_kmi, a_kri.mT)
    y = linear(x, weight_oi, bias)
    y.view(len(a_kri), -1, y.shape[-1]).baddbmm_(inner_kmr, b_kro, alpha=scale)
    return y, x_kmi, inner_kmr


class _Stacked(torch.autograd.Function):
    """Gradients of the factors are added to their buffers right here: thousands of small tensors never come to be."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        base: Any,
        bias: Tensor | None,
        factors: Factors,
        scale: float,
        kept: Tensor | None,
        _tape: Tensor,
    ) -> Tensor:
        """`_tape` asks for a gradient, so that the backward pass comes here even where x does not."""
        y, x_kmi, inner_kmr = _run(x, weight_of(base, x.dtype), bias, factors, scale, kept)
        ctx.save_for_backward(x_kmi, inner_kmr, kept)
        ctx.base, ctx.factors, ctx.scale = base, factors, scale
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Add up the factors' gradients, pass on that of x."""
        x_kmi, inner_kmr, kept = ctx.saved_tensors
        factors: Factors = ctx.factors
        (dy,) = gradients
        dy_kmo = dy.reshape(len(x_kmi), -1, dy.shape[-1])
        d_inner_kmr = torch.bmm(dy_kmo, factors.b_kro.to(dy.dtype).mT).mul_(ctx.scale)
        # into new tensors first: torch multiplies into strided ones one by one
        if factors.b_gradient_kro is not None:
            factors.b_gradient_kro.add_(torch.bmm(inner_kmr.mT, dy_kmo), alpha=ctx.scale)
        if factors.a_gradient_kri is not None:
            factors.a_gradient_kri.add_(torch.bmm(d_inner_kmr.mT, x_kmi))
        if not ctx.needs_input_grad[0]:
            return (None,) * 7
        dx = dy.matmul(weight_of(ctx.base, dy.dtype))
        a_kri = factors.a_kri.to(dx.dtype)
        if kept is None:
            dx.view(x_kmi.shape).baddbmm_(d_inner_kmr, a_kri)
        else:
            dx.add_(torch.bmm(d_inner_kmr, a_kri).view(dx.shape).mul_(kept))
        return (dx, None, None, None, None, None, None)
