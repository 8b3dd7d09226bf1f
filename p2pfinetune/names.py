"""The plain values that every part of the project speaks in. Never imports torch, so that anything may import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NewType, get_args

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58 (`12D3Koo...`); the public key is inside it."""

Round = NewType("Round", int)
"""How many rounds one peer has begun, counted from 1 by that peer alone; peers need not agree."""

Digest = NewType("Digest", str)
"""SHA-256 in 64 lower-case hexadecimal digits."""

Which = Literal["base", "own", "personal", "local", "local_best", "best", "served"]
"""One of a peer's models; `learner` says what each is."""

Served = Literal["personal", "best", "local"]
"""Whose adapter a person is given: the personal one, the best that merging ever reached, the twin's best."""
SERVED: tuple[Served, ...] = get_args(Served)

Sharing = Literal["both", "a", "b"]
"""Which factors of an adapter peers share; `p2pfinetune.model.adapter` says what each means."""
SHARINGS: tuple[Sharing, ...] = get_args(Sharing)

DEFAULT_ADAPTER, TWIN_ADAPTER = "default", "twin"
"""Names of the adapters that a peer holds: the one that its network is about, and that of training alone."""

ROW_TOLERANCE = 1e-6  # a row is summed in float64 over at most some hundred peers


@dataclass(frozen=True, slots=True)
class TrustRow:
    """Row i of the trust matrix: how much peer i weighs each peer, itself included. Sums to one by construction."""

    weights: Mapping[PeerId, float]

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("a trust row has at least one peer: the owner")
        for peer, weight in self.weights.items():
            if not 0.0 <= weight <= 1.0 + ROW_TOLERANCE:  # also refuses NaN
                raise ValueError(f"a trust weight lies between 0 and 1, but {peer} has {weight}")
        total = sum(self.weights.values())
        if abs(total - 1.0) > ROW_TOLERANCE:
            raise ValueError(f"trust weights sum to one, got {total}")
        object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something a peer sent was not taken. `reason` is a short fixed word and counted; `detail` is for people."""

    reason: str
    detail: str = ""
