"""Trust by performance at first order: one backward pass instead of a run of every adapter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import TrustContext, TrustScheme

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstOrder(TrustScheme):
    """Trust adapters in whose direction the loss on the own trust split falls: validation trust, linearised.

    The loss of a peer's adapter is taken as L(own) + <dL/dtheta, theta_j - theta_own>: one backward pass for all peers.
    temperature: nats a token, as in `validation`.
    """

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0.0:
            raise ValueError("temperature is positive")

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> dict[PeerId, float]:
        """Minus the predicted rise of the loss over the own one, in units of the temperature."""
        own = adapters[me]
        ((gradient, _),) = context.gradients(own)
        return {peer: _finite(-_rise(gradient, theirs, own) / self.temperature) for peer, theirs in adapters.items()}


def _rise(gradient: Adapter, theirs: Adapter, own: Adapter) -> float:
    return math.fsum(
        float((slope.double() * (theirs.tensors[name] - own.tensors[name]).double()).sum())
        for name, slope in gradient.tensors.items()
    )


def _finite(score: float) -> float:
    return score if math.isfinite(score) else -math.inf
