"""The plain values that every part of the project speaks in. Never imports torch, so that anything may import it.

A value checks itself when it is made: a trust row that does not sum to one cannot exist, and so needs no check later.
The rows of arXiv 2404.09753's released code sum to as much as the number of peers for two of its schemes, and weights
grow until they are no numbers; the type is the cheapest guard against that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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

ServedAdapter = Literal["personal", "best", "local"]
"""Whose adapter a person is given: the personal one, the best that merging ever reached, the twin's best."""
SERVED_ADAPTERS: tuple[ServedAdapter, ...] = get_args(ServedAdapter)

Served = Literal[ServedAdapter, "mixture"]
"""What a person is given: an adapter, or a mixture of the predictions of several (`p2pfinetune.round.blend`)."""

Serve = Literal["adapter", "mixture"]
"""Whether a mixture of predictions may be served."""

Loss = Literal["answers", "all"]
"""What of conversations is learnt and measured."""
ExportFormat = Literal["peft", "merged", "gguf-lora", "gguf"]
"""As what an adapter is written for other programs; `p2pfinetune.export` says what each is."""
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

Sharing = Literal["both", "a", "b", "alternate", "sketch", "generalist", "individual", "two-level"]
"""Which factors of an adapter peers share; `p2pfinetune.model.adapter` and `.parts` say what each means."""
SHARINGS: tuple[Sharing, ...] = get_args(Sharing)
SEVERAL: tuple[Sharing, ...] = ("generalist", "individual", "two-level")
"""Those with which some layers have several adapters."""
Mixing = Literal["token", "layer", "sum"]
"""By what several adapters of one layer are weighed; `p2pfinetune.model.parts` says what each means."""
ROUTER = ".router"
"""How the name of what weighs them ends."""

DEFAULT_ADAPTER, TWIN_ADAPTER = "default", "twin"
"""Names of the adapters that a peer holds: the one that its network is about, and that of training alone."""

ROW_TOLERANCE = 1e-6  # a row is summed in float64 over at most some hundred peers


@dataclass(frozen=True, slots=True)
class TrustRow:
    """Row i of the trust matrix: how much peer i weighs each peer, itself included. Sums to one by construction.

    A scheme may weigh peers otherwise in each layer. Then `layers` has a row for each, by which merge rules merge it,
    and `weights`, which is what people see and what comes of it later, is their mean.
    """

    weights: Mapping[PeerId, float]
    layers: Mapping[str, Mapping[PeerId, float]] = field(default_factory=dict)
    """By the path of the adapted layer in the model; empty if one row is for all. Made by `of_layers`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _distribution(self.weights))
        layers = {layer: _distribution(weights) for layer, weights in self.layers.items()}
        if any(weights.keys() != self.weights.keys() for weights in layers.values()):
            raise ValueError("every layer weighs the same peers")
        object.__setattr__(self, "layers", MappingProxyType(layers))

    @classmethod
    def of_layers(cls, layers: Mapping[str, Mapping[PeerId, float]]) -> TrustRow:
        """A row for each layer, and their mean. All have the same peers."""
        rows = [*layers.values()]
        return cls({peer: math.fsum(row[peer] for row in rows) / len(rows) for peer in rows[0]}, layers)

    @property
    def rows(self) -> tuple[Mapping[PeerId, float], ...]:
        """By which something is merged: that of each layer, or the one for all."""
        return tuple(self.layers.values()) or (self.weights,)

    def changed(self, change: Callable[[Mapping[PeerId, float]], Mapping[PeerId, float]]) -> TrustRow:
        """With the same done to each of `rows`."""
        if not self.layers:
            return TrustRow(change(self.weights))
        return TrustRow.of_layers({layer: change(weights) for layer, weights in self.layers.items()})


def _distribution(weights: Mapping[PeerId, float]) -> Mapping[PeerId, float]:
    """The same, and no more to be changed. ValueError for what is none."""
    if not weights:
        raise ValueError("a trust row has at least one peer: the owner")
    for peer, weight in weights.items():
        if not 0.0 <= weight <= 1.0 + ROW_TOLERANCE:  # also refuses NaN
            raise ValueError(f"a trust weight lies between 0 and 1, but {peer} has {weight}")
    total = sum(weights.values())
    if abs(total - 1.0) > ROW_TOLERANCE:
        raise ValueError(f"trust weights sum to one, got {total}")
    return MappingProxyType(dict(weights))


def expert_of(name: str) -> int | None:
    """Which of a layer's adapters a factor belongs to, 0 being the one that a plain layer has; None: the router."""
    if name.endswith(ROUTER):
        return None
    owner = name.rpartition(".")[0].rpartition(".")[2]
    number = owner.removeprefix("expert")
    return int(number) if owner != number and number.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something a peer sent was not taken. `reason` is a short fixed word and counted; `detail` is for people."""

    reason: str
    detail: str = ""
