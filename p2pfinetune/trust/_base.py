"""What a trust scheme is: scores over me and my neighbours, made into a row by one softmax that all schemes share.

A scheme gives a score per peer in its own unit (a cosine, a negative loss, ...), larger is better, and a temperature. A
softmax of log-likelihoods is a posterior over peers; of other scores it is a convention of the paper, which is why each
scheme has a temperature of its own, found by measurement.

Masks, `threshold` and `top_k` act on the scores before the softmax, so that what is left always sums to one. The
released code of arXiv 2404.09753 masks some topologies after it, and its rows then do not sum to one; `TrustRow` would
refuse those. Rows sum to one to within 1e-6, hold me always, and are a function of values: ties go by peer id.

Most schemes answer with these scores and forget. One that has more to say answers with a `Judgement`: scores for each
adapted layer, from which every layer gets a row of its own, or what to remember until the next round. A scheme itself
is a frozen value and never changes; what it remembers is handed to it by the context and saved with the learner, so
that the second look may ask it again in the same round without its memory going on twice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from p2pfinetune.names import PeerId, TrustRow

if TYPE_CHECKING:
    from torch import Tensor

    from p2pfinetune.model.adapter import Adapter, FactorSet


MAX_KEPT = 1 << 14  # numbers of one scheme: some hundred kB of a checkpoint
MOST_PEERS_KEPT = 256  # far more than take part in a round


@dataclass(frozen=True, slots=True)
class SchemeState:
    """What a scheme remembers from one round to the next: a few named tables of a finite number by peer or layer."""

    tables: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [number for table in self.tables.values() for number in table.values()]
        if len(numbers) > MAX_KEPT:
            raise ValueError(f"a trust scheme keeps at most {MAX_KEPT} numbers, not {len(numbers)}")
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("what a trust scheme keeps is finite")


NOTHING = SchemeState()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a scheme may answer beside plain scores."""

    scores: Mapping[PeerId, float] = field(default_factory=dict)
    """Of every peer, where one row is for all layers."""
    layers: Mapping[str, Mapping[PeerId, float]] = field(default_factory=dict)
    """Or of every peer in each adapted layer."""
    kept: SchemeState = NOTHING
    """What the context hands it in the next round."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """What a scheme asks of neighbours: the gradient of each at the middle of its adapter and mine; see `round.pairs`.

    Of all schemes' questions the one that leaves the device, so neither of two peers answers it that has not chosen it.
    """

    probability: float
    """That a pair meets in a round; 0: one in the number of peers."""
    is_noisy: bool
    """Whether gradients are taken with dropout on."""

    def chance(self, peers: int) -> float:
        """That a pair among so many peers, me included, meets in a round."""
        return self.probability or 1.0 / max(1, peers)


class TrustContext(Protocol):
    """All that a scheme may ask of the world. Everything is measured on the own trust split, dropout off."""

    @property
    def initial(self) -> Adapter:
        """The seeded adapter that every peer of the network started from (B = 0)."""
        ...

    def moved(self, adapter: Adapter) -> FactorSet:
        """How far the factors that peers share have come from there. A factor that is not shared is mine in all."""
        ...

    @property
    def shares(self) -> Mapping[PeerId, tuple[float, ...]]:
        """Declared category shares, one tuple a peer; empty outside the simulator and the demo."""
        ...

    @property
    def last_row(self) -> Mapping[PeerId, float]:
        """My trust row of the last round that heard anybody; empty before the first."""
        ...

    @property
    def kept(self) -> SchemeState:
        """What this very scheme answered to keep in the last round that heard anybody; nothing before the first."""
        ...

    @property
    def products(self) -> Mapping[PeerId, float]:
        """Of a scheme with a `pairing`: agreements with neighbours that met me since the last round; finite."""
        ...

    def loss(self, adapter: Adapter) -> float:
        """Mean cross-entropy in nats a token: a forward pass at that adapter."""
        ...

    def losses(self, adapters: Sequence[Adapter]) -> list[float]:
        """`loss` of each, in one go."""
        ...

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> Tensor:
        """Next-token logits (P positions, V entries) at fixed contexts: the same P positions for every adapter.

        Several positions of each context, or its last one only, as the paper's prediction similarity has it.
        """
        ...

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        """What `make` gives, made once in a round for this very adapter: who asks again is given the same number."""
        ...

    def slopes(self, adapters: Sequence[Adapter]) -> list[Adapter]:
        """The gradient of my loss at each adapter, a neighbour's or mine, over the whole split, in one go."""
        ...

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        """Gradients of the loss with respect to the adapter, on up to `parts` parts of the split, and their tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustScheme(ABC):
    """Options that every scheme has.

    top_k: keep the k best-scored peers (the own one is always kept and counted); 0 keeps all.
    threshold: drop neighbours whose score lies below this, in the scheme's own unit.
    """

    top_k: int = 0
    threshold: float = -math.inf

    by_layer: ClassVar[bool] = False
    """Whether it answers with scores for each layer; then the merge rule has to merge layer by layer."""

    @property
    def pairing(self) -> Pairing | None:
        """What neighbours are asked for; None: nothing."""
        return None

    def agreement(self, product: float, mine: float, theirs: float) -> float:
        """What a neighbour's gradient counts for, by its inner product with mine and the two lengths."""
        return product

    def spring(self, kept: SchemeState) -> float:
        """How strongly the own training is drawn to the neighbours' mean by the row, in place of a merge; 0: merge."""
        return 0.0

    @abstractmethod
    def scores(
        self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext
    ) -> dict[PeerId, float] | Judgement:
        """A score for every peer of `adapters` (me included), ready for a softmax of temperature one; -inf excludes.

        NaN and +inf are an error of the scheme: what a peer can cause has to be -inf.
        """

    def row(
        self,
        me: PeerId,
        adapters: Mapping[PeerId, Adapter],
        context: TrustContext,
        allowed: frozenset[PeerId] | None = None,
    ) -> TrustRow:
        """The trust row over exactly the peers of `adapters`; peers outside `allowed` weigh zero, never me."""
        return self.judged(me, adapters, context, allowed)[0]

    def judged(
        self,
        me: PeerId,
        adapters: Mapping[PeerId, Adapter],
        context: TrustContext,
        allowed: frozenset[PeerId] | None = None,
    ) -> tuple[TrustRow, SchemeState]:
        """The same row, and what the scheme wants to remember of this round."""
        permitted = {p: a for p, a in adapters.items() if allowed is None or p in allowed or p == me}
        found = self.scores(me, permitted, context)
        said = found if isinstance(found, Judgement) else Judgement(scores=found)

        def row(scores: Mapping[PeerId, float]) -> dict[PeerId, float]:
            weights = softmax(sparsify(me, scores, self.top_k, self.threshold))
            return {peer: weights.get(peer, 0.0) for peer in adapters}

        if said.layers:
            return TrustRow.of_layers({layer: row(scores) for layer, scores in said.layers.items()}), said.kept
        return TrustRow(row(said.scores)), said.kept


def carried(before: Mapping[str, float], now: Mapping[PeerId, float]) -> dict[str, float]:
    """`now` and what is known of others, who was heard longest ago first; of those the latest, a bounded number."""
    found = {peer: number for peer, number in before.items() if peer not in now}
    found.update(now.items())
    return dict([*found.items()][-MOST_PEERS_KEPT:])


def sparsify(me: PeerId, scores: Mapping[PeerId, float], top_k: int, threshold: float) -> dict[PeerId, float]:
    """Scores of the peers that stay: me, and neighbours above `threshold` among the `top_k` best (ties by peer id)."""
    if top_k < 0:
        raise ValueError("top_k is zero or positive")
    if any(math.isnan(score) or score == math.inf for score in scores.values()):
        raise ValueError(f"scores are numbers, got {dict(scores)}")
    others = sorted((p for p in scores if p != me), key=lambda p: (-scores[p], p))
    others = [p for p in others if scores[p] >= threshold]
    chosen = others[: top_k - 1] if top_k else others
    return {p: scores[p] for p in (me, *chosen)}


def softmax(scores: Mapping[PeerId, float]) -> dict[PeerId, float]:
    """Exponentials normalised to one, in float64, shifted so that nothing overflows."""
    top = max(scores.values())
    if top == -math.inf:
        raise ValueError("every peer is excluded")
    powers = {peer: math.exp(score - top) for peer, score in scores.items()}
    total = math.fsum(powers.values())
    return {peer: power / total for peer, power in powers.items()}
