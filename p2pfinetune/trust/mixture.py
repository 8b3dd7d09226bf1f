"""Trust learnt on what matters: the validation loss of the merged adapter itself.

Other schemes score peers one by one and hope that the mean of good adapters is good. Here the row itself is learnt: the
loss of the merge is a function of n weights on the simplex, and a round takes a few steps down it. What two peers say
alike is then not counted twice, and a peer that is bad alone but good in company is found.

Exponentiated gradient (Kivinen and Warmuth 1997) is the natural step on a simplex: weights are multiplied and
normalised, so they stay positive and sum to one without a projection. It has no way back from zero, hence the floor.

Shapes: k parts of the trust split, j peers (me included) sorted by id, p all entries of an adapter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.names import PeerId
from p2pfinetune.scoring.paired import standard_error, token_mean
from p2pfinetune.trust._base import TrustContext, TrustScheme, softmax

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


Slopes: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]

COLD = 4  # times as many steps if there is no last row to go on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture(TrustScheme):
    """Choose the row that makes the merged adapter best on the own trust split, by exponentiated-gradient steps.

    With w = softmax(z) and g_j = dL/dw_j, one backward pass of the merge by w gives all g_j as inner products, and a
    step is z <- z - eta g (Kivinen and Warmuth 1997; no Jacobian of the softmax). The row of the last round is where it
    starts. Its cost does not grow with the number of peers but for the inner products.
    eta: the length of a step; a peer whose slope is a tenth of a nat above another's loses a factor of e^(eta / 10).
    steps: gradient steps a round; four times as many in the first.
    of: what is mixed, "factors" A and B (the factor mean) or "products" BA; as the merge rule has it.
    floor: the part of the start that is spread evenly, so that a newcomer can rise.
    own: the least share of my own adapter, for slopes may give all of it away, and with it what others cannot know.
    confidence: standard errors that a slope, less the mean one, is shortened by before it moves a weight, so that a
    small split does not choose among peers that it cannot tell apart; 0 takes slopes as they are, in one pass.
    parts: of the split, for the standard error.
    """

    # chosen on development seeds of two settings (docs/LOG.md): steps shorter than 3 do not get there in a dozen rounds
    eta: float = 10.0
    steps: int = 2
    floor: float = 0.02
    own: float = 0.2  # what no neighbour knows of my text is in my adapter alone (docs/adr/0018)
    confidence: float = 0.0  # shortened slopes were no better but on one setting of three (docs/LOG.md)
    parts: int = 8
    of: Literal["factors", "products"] = "factors"

    def __post_init__(self) -> None:
        if not self.eta > 0.0 or self.steps < 1 or not 0.0 < self.floor <= 1.0:
            raise ValueError("eta is positive, there is at least one step, and the floor lies in (0, 1]")
        if not 0.0 <= self.own <= 1.0:
            raise ValueError("own is a share: between 0 and 1")
        if not self.confidence >= 0.0 or self.parts < 2:
            raise ValueError("confidence is zero or positive, and there are at least two parts")
        if self.of not in ("factors", "products"):
            raise ValueError(f"of is 'factors' or 'products', not {self.of!r}")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """The logarithms of the learnt weights; an adapter that is not finite is excluded."""
        finite = [peer for peer in sorted(adapters) if peer == me or math.isfinite(adapters[peer].norm())]
        z = {peer: math.log(weight) for peer, weight in _start(finite, context.last_row, self.floor).items()}
        for _ in range(self.steps if context.last_row else COLD * self.steps):
            slopes = self._slopes(softmax(z), adapters, context)
            if not all(math.isfinite(slope) for slope in slopes.values()):
                break
            z = {peer: z[peer] - self.eta * slopes[peer] for peer in z}
        weights = with_own(me, softmax(z), self.own)
        return {peer: _logarithm(weights[peer]) if peer in weights else -math.inf for peer in adapters}

    def _slopes(
        self, weights: Mapping[PeerId, float], adapters: Mapping[PeerId, Adapter], context: TrustContext
    ) -> dict[PeerId, float]:
        """dL/dw_j less their mean, which the softmax does not see, and less what may be chance."""
        slopes_at = factor_slopes if self.of == "factors" else product_slopes
        slopes_kj, tokens_k = slopes_at(weights, adapters, context, self.parts if self.confidence else 1)
        centred_kj = slopes_kj - (slopes_kj @ np.array([*weights.values()]))[:, None]
        return {
            peer: _shortened(
                token_mean(slope_k, tokens_k),
                self.confidence * standard_error(slope_k, tokens_k) if self.confidence else 0.0,
            )
            for peer, slope_k in zip(weights, centred_kj.T, strict=True)
        }


def with_own(me: PeerId, weights: Mapping[PeerId, float], least: float) -> dict[PeerId, float]:
    """Weights that sum to one, mine not below `least`; the others give that up in proportion."""
    if weights[me] >= least:
        return dict(weights)
    others = 1.0 - weights[me]
    return {peer: least if peer == me else weight * (1.0 - least) / others for peer, weight in weights.items()}


def _start(peers: list[PeerId], last: Mapping[PeerId, float], floor: float) -> dict[PeerId, float]:
    """The last row among those present, mixed with the uniform one."""
    known = math.fsum(last.get(peer, 0.0) for peer in peers)
    even = 1.0 / len(peers)
    if known <= 0.0:
        return dict.fromkeys(peers, even)
    return {peer: (1.0 - floor) * last.get(peer, 0.0) / known + floor * even for peer in peers}


def factor_slopes(
    weights: Mapping[PeerId, float], adapters: Mapping[PeerId, Adapter], context: TrustContext, parts: int
) -> tuple[Slopes, Counts]:
    """dL/dw_j at the factor mean by `weights`, on each part of the split, and the parts' tokens."""
    import torch

    first = adapters[next(iter(weights))]
    merged = {
        name: sum(
            (weights[peer] * adapters[peer].tensors[name].double() for peer in weights),
            torch.zeros_like(tensor, dtype=torch.float64),
        ).float()
        for name, tensor in first.tensors.items()
    }
    vectors_pj = torch.stack([adapters[peer].vector().double() for peer in weights], dim=1)
    found = context.gradients(type(first)(merged), parts)
    slopes_kj = torch.stack([gradient.vector().double() for gradient, _ in found]) @ vectors_pj
    return slopes_kj.numpy(), np.array([tokens for _, tokens in found], np.int64)


def product_slopes(
    weights: Mapping[PeerId, float], adapters: Mapping[PeerId, Adapter], context: TrustContext, parts: int
) -> tuple[Slopes, Counts]:
    """The same for the weighted sum of products, which is one adapter of rank n r: B = [w_1 B_1 ...], A = [A_1; ...].

    dL/dw_j = <dL/dW, B_j A_j>, and the gradient of block j of that B is dL/dW A_j^T: no product is ever formed.
    """
    import torch

    first = adapters[next(iter(weights))]
    wide = {}
    for path, _, _ in first.pairs():
        a, b = f"{path}.lora_A", f"{path}.lora_B"
        wide[a] = torch.cat([adapters[peer].tensors[a] for peer in weights])
        wide[b] = torch.cat([weight * adapters[peer].tensors[b] for peer, weight in weights.items()], dim=1)
    found = context.gradients(type(first)(wide), parts)
    slopes_kj = np.zeros((len(found), len(weights)))
    for path, _, _ in first.pairs():
        b = f"{path}.lora_B"
        rank = first.tensors[b].shape[1]
        for k, (gradient, _) in enumerate(found):
            blocks = gradient.tensors[b].double().split(rank, dim=1)
            for j, (peer, slope) in enumerate(zip(weights, blocks, strict=True)):
                slopes_kj[k, j] += float((slope * adapters[peer].tensors[b]).sum())
    return slopes_kj, np.array([tokens for _, tokens in found], np.int64)


def _shortened(slope: float, by: float) -> float:
    return math.copysign(max(0.0, abs(slope) - by), slope) if math.isfinite(slope) else slope


def _logarithm(weight: float) -> float:
    return math.log(weight) if weight > 0.0 else -math.inf
