"""Trust by performance from slopes: one backward pass instead of a run of every adapter, or one for each.

L(theta_j) is about L(theta_own) + <dL/dtheta, theta_j - theta_own>: the gradient is taken once, and a peer costs an
inner product. It holds as far as the loss is straight between the two, which it is not for peers that came a long way
by themselves: if the loss curves upwards on the way, the estimate is too low, and strangers look better than
`validation` finds them. With slopes at both ends (`at`) the curve is seen, for a backward pass for each peer.

CoBo (arXiv 2409.05539) also weighs peers by inner products, of two gradients at the point between them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder(TrustScheme):
    """Trust adapters in whose direction the loss on the own trust split falls: validation trust, linearised.

    The loss of a peer's adapter is taken as L(own) + <dL/dtheta, theta_j - theta_own>: one backward pass for all peers.
    temperature: nats a token, as in `validation`.
    at: where the slope is taken, "own" adapter, or the mean of those at "both" ends of the way, which is exact for a
    loss that is quadratic on it, and costs a backward pass for each peer.
    """

    temperature: float = 0.1
    at: Literal["own", "both"] = "own"

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")
        if self.at not in ("own", "both"):
            raise ValueError(f"at is 'own' or 'both', not {self.at!r}")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Minus the predicted rise of the loss over the own one, in units of the temperature."""
        own = adapters[me]
        (gradient,) = context.slopes([own])
        rises = {peer: _rise(gradient, theirs, own) for peer, theirs in adapters.items()}
        if self.at == "both":
            ends = zip(adapters.items(), context.slopes([*adapters.values()]), strict=True)
            rises = {peer: 0.5 * (rises[peer] + _rise(slope, theirs, own)) for (peer, theirs), slope in ends}
        return {peer: _finite(-rise / self.temperature) for peer, rise in rises.items()}


def _rise(gradient: Adapter, theirs: Adapter, own: Adapter) -> float:
    return math.fsum(
        float((slope.double() * (theirs.tensors[name] - own.tensors[name]).double()).sum())
        for name, slope in gradient.tensors.items()
    )


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
