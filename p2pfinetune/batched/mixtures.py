"""A layer with several adapters for each peer, weighed by a constant, by the layer or by a router; see `model.parts`.

For y = x W^T + s sum over e of w_e (x' A_e^T) B_e^T with upstream gradient dy, and u_e = x' A_e^T:

    v_e = s dy B_e        dB_e^T = s (w_e u_e)^T dy        dA_e = (w_e v_e)^T x'        dw_e = the row's sum of v_e u_e
    dx = dy W + sum over e of d(w_e v_e A_e), where d is dropout's own gradient, and what comes through the weights

As in `layers`, gradients of factors are added to the stack's buffers and autograd never sees them. The weights are
autograd's own affair: they are small, and their gradient goes into routers and into x. Every expert is computed for
every token, also where its weight is zero: of low rank, it costs less than choosing rows would.

The balance is the auxiliary loss of CoMiGS (arXiv 2409.13931, authors' code) of one layer of E experts,

    E^2 mean over e of density_e proxy_e f_e,   f_0 = 1 / (E p_0),   f_e = (E - 1) / (E (1 - p_0)),   p_0 = 1/2,

density_e being the share of tokens whose first choice e is, proxy_e the mean of its softmax over all experts. It is
smallest if expert 0 is chosen as often as all others together, and with p_0 = 1/E it is that of Switch Transformers
(arXiv 2101.03961). A pass knows its own tokens alone.

Shapes: k peers, m rows of each, e experts, i inputs, o outputs, r rank of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from p2pfinetune.model.held import weight_of
from p2pfinetune.model.parts import SELECTED
from p2pfinetune.names import Mixing

FIRST_SHARE = 0.5  # p_0 above: expert0_importance in the authors' code


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Of one adapter of a layer, for each peer: views into the buffers of a stack."""

    a_kri: Tensor
    b_kro: Tensor
    a_gradient_kri: Tensor | None
    """Where the backward pass adds; of a factor without it, no gradient is computed."""
    b_gradient_kro: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class MixedFactors:
    """Several adapters of one layer, and what weighs them."""

    experts: tuple[Factors, ...]
    mixing: Mixing
    router_kei: Tensor | None
    """With mixing by layer, i is 1; of a sum there is none."""
    router_gradient_kei: Tensor | None
    seen: list[Tensor] = field(default_factory=list)
    """What routers gave in the last pass with gradients, (k, m, e): what `balance` is about."""


def mixed(
    x: Tensor, base: Any, bias: Tensor | None, mixture: MixedFactors, scale: float, kept: Tensor | None, tape: Tensor
) -> Tensor:
    """What the base gives and the weighed sum of all adapters."""
    weights_kme = weights_of(x.reshape(len(mixture.experts[0].a_kri), -1, x.shape[-1]), mixture, tape)
    if not torch.is_grad_enabled():
        return _run(x, weights_kme, weight_of(base, x.dtype), bias, mixture.experts, scale, None)[0]
    found: Tensor = _Mixed.apply(x, weights_kme, base, bias, mixture.experts, scale, kept, tape)  # type: ignore[no-untyped-call]
    return found


def weights_of(x_kmi: Tensor, mixture: MixedFactors, tape: Tensor) -> Tensor:
    """(k, m, e), in the numbers of x; they sum to one, but for mixing by sum."""
    peers, rows, _ = x_kmi.shape
    experts = len(mixture.experts)
    if mixture.router_kei is None:
        return x_kmi.new_ones(()).expand(peers, rows, experts)
    router_kei: Tensor = mixture.router_kei
    if torch.is_grad_enabled() and mixture.router_gradient_kei is not None:
        router_kei = _Leaf.apply(router_kei, mixture.router_gradient_kei, tape)  # type: ignore[no-untyped-call]
    if mixture.mixing == "layer":
        return router_kei.squeeze(2).softmax(dim=1).to(x_kmi.dtype).unsqueeze(1).expand(-1, rows, -1)
    logits_kme = torch.bmm(x_kmi, router_kei.to(x_kmi.dtype).mT)
    logits_kme = logits_kme.to(torch.promote_types(x_kmi.dtype, torch.float32))
    if torch.is_grad_enabled():
        mixture.seen[:] = [logits_kme]
    return of_the_largest(logits_kme).to(x_kmi.dtype)


def of_the_largest(logits_kme: Tensor) -> Tensor:
    """Softmax over each token's largest logits, zero for all others."""
    if logits_kme.shape[-1] <= SELECTED:
        return logits_kme.softmax(dim=-1)
    found, places = logits_kme.topk(SELECTED, dim=-1)
    return torch.zeros_like(logits_kme).scatter(-1, places, found.softmax(dim=-1))


def balance(logits_kme: Tensor) -> Tensor:
    """(k,): see above. The density is counted and has no gradient."""
    experts = logits_kme.shape[-1]
    chosen_kme = torch.nn.functional.one_hot(logits_kme.argmax(dim=-1), experts).to(logits_kme.dtype)
    proxy_ke = logits_kme.softmax(dim=-1).mean(dim=1)
    wanted_e = proxy_ke.new_full((experts,), (experts - 1) / (experts * (1.0 - FIRST_SHARE)))
    wanted_e[0] = 1.0 / (experts * FIRST_SHARE)
    return (chosen_kme.mean(dim=1) * proxy_ke * wanted_e).mean(dim=1) * experts**2


def _run(
    x: Tensor,
    weights_kme: Tensor,
    weight_oi: Tensor,
    bias: Tensor | None,
    experts: tuple[Factors, ...],
    scale: float,
    kept: Tensor | None,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The output; x as the adapters see it, and its product with each A, by peer."""
    x_kmi = (x if kept is None else x * kept).reshape(len(weights_kme), -1, x.shape[-1])
    y = linear(x, weight_oi, bias)
    y_kmo = y.view(len(weights_kme), -1, y.shape[-1])
    inner = []
    for e, factors in enumerate(experts):
        inner.append(torch.bmm(x_kmi, factors.a_kri.to(x.dtype).mT))
        y_kmo.baddbmm_(inner[-1] * weights_kme[..., e : e + 1], factors.b_kro.to(x.dtype), alpha=scale)
    return y, x_kmi, inner


class _Leaf(torch.autograd.Function):
    """Numbers of the stack as autograd sees them: what it finds of their gradient is added to the stack's."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gradient: Tensor, _tape: Tensor) -> Tensor:
        """The tape asks for a gradient."""
        ctx.gradient = gradient
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        """Add it."""
        ctx.gradient.add_(gradients[0])
        return None, None, None


class _Mixed(torch.autograd.Function):
    """Gradients of the factors are added to their buffers right here, as in `layers`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weights_kme: Tensor,
        base: Any,
        bias: Tensor | None,
        experts: tuple[Factors, ...],
        scale: float,
        kept: Tensor | None,
        _tape: Tensor,
    ) -> Tensor:
        """`_tape` asks for a gradient, so that the backward pass comes here even if x does not."""
        y, x_kmi, inner = _run(x, weights_kme, weight_of(base, x.dtype), bias, experts, scale, kept)
        ctx.save_for_backward(x_kmi, weights_kme, kept, *inner)
        ctx.base, ctx.experts, ctx.scale = base, experts, scale
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Add up the factors' gradients, pass on those of x and of the weights."""
        x_kmi, weights_kme, kept, *inner = ctx.saved_tensors
        (dy,) = gradients
        dy_kmo = dy.reshape(len(x_kmi), -1, dy.shape[-1])
        d_x_kmi = torch.zeros_like(x_kmi) if ctx.needs_input_grad[0] else None
        d_weights = []
        for e, factors in enumerate(ctx.experts):
            weight_km1 = weights_kme[..., e : e + 1]
            d_inner_kmr = torch.bmm(dy_kmo, factors.b_kro.to(dy.dtype).mT).mul_(ctx.scale)
            d_weights.append((d_inner_kmr * inner[e]).sum(dim=-1))
            d_inner_kmr.mul_(weight_km1)
            if factors.b_gradient_kro is not None:
                factors.b_gradient_kro.add_(torch.bmm((inner[e] * weight_km1).mT, dy_kmo), alpha=ctx.scale)
            if factors.a_gradient_kri is not None:
                factors.a_gradient_kri.add_(torch.bmm(d_inner_kmr.mT, x_kmi))
            if d_x_kmi is not None:
                d_x_kmi.baddbmm_(d_inner_kmr, factors.a_kri.to(dy.dtype))
        d_weights_kme = torch.stack(d_weights, dim=-1) if ctx.needs_input_grad[1] else None
        if d_x_kmi is None:
            return (None, d_weights_kme, *(None,) * 6)
        dx = dy.matmul(weight_of(ctx.base, dy.dtype))
        through = d_x_kmi.view(dx.shape)
        dx.add_(through if kept is None else through.mul_(kept))
        return (dx, d_weights_kme, *(None,) * 6)
