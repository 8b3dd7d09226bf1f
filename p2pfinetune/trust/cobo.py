"""CoBo: trust whoever's loss falls where mine falls, half-way between us (Hashemi, He, Jaggi 2024, arXiv 2409.05539).

Collaboration as a problem in two levels. Outside, peers minimise sum_i f_i(x_i) + rho/2 sum_ij w_ij |x_i - x_j|^2;
inside, w_ij maximises w <grad f_i(z), grad f_j(z)> at the middle z = (x_i + x_j) / 2, so that two peers are drawn
together if one step there would help both. A pair that meets takes one step of the inner problem, and all take steps of
the outer one:

    w_ij <- projection(w_ij + gamma <g_i(z), g_j(z)>)                     each pair with probability 1/n
    x_i  <- x_i - eta (g_i(x_i) + rho sum_k w_ik (x_i - x_k))

The middle is asked of two texts, so this is the one scheme here that one peer cannot work out alone. Each asks the
other for its gradient, an answer at most for each pair of announced adapters (`round.pairs`, docs/protocol.md); what
has come since the last round is in the context, and weights of pairs that did not meet stay. So nobody waits for it.

What the daemon needs beyond the paper:

- *Rounds.* The paper's peers meet after every step. Here a round of some twenty steps stands for as many iterations, so
  gamma and rho are those of the authors' code (0.05 and 0.001 an iteration) taken twenty times.
- *The pull is a row.* The authors' code applies it outside the optimizer, not scaled by the learning rate; done once a
  round that is a merge in which neighbour k weighs rho w_ik and the rest is mine, so guard, second look and the bound
  on a single neighbour meet it as any other merge. With `pull = "spring"` it is the formula above, word for word: a
  term of every gradient of the next round's training, towards the neighbours' mean by w (Ditto's spring). It is set
  only by a row whose merge the guard has not refused.
- *Lies.* Nobody can check a gradient, which depends on text that only its owner has. So an answer counts as no longer
  than my own gradient (`clip`): the best that a liar can get is what a copy of me would.
- *Comings and goings.* A newcomer starts as everybody did, at an even weight; who is away keeps its own.

Projections: onto the simplex {w >= 0, sum w = 1} by sorting (Held, Wolfe, Crowder 1974; Duchi et al. 2008), my own
entry included as in the authors' code, where it takes what nobody else deserves; onto the box [0, 1]^n by clipping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from p2pfinetune.names import PeerId
from p2pfinetune.trust._base import Judgement, Pairing, SchemeState, TrustContext, TrustScheme, carried

if TYPE_CHECKING:
    from p2pfinetune.model.adapter import Adapter

LEAST = 1e-300  # of mine: nothing beside any other, and a row without anybody is none if others are masked
WEIGHTS = "weights"
"""The table of what is kept: w by peer, mine among them on the simplex."""
SPRING, STRENGTH = "spring", "strength"
"""The table, and its one entry, of how strongly a spring draws where the row gives all to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cobo(TrustScheme):
    """Trust peers whose loss falls where mine falls, half-way between us; neighbours are asked for gradients (CoBo).

    Weights are learnt from round to round from inner products of both peers' gradients at the middle of their adapters
    (arXiv 2409.05539); both ends have to choose it, and what is sent says something of the text: docs/threat-model.md.
    gamma: the length of a step of the weights, for each pair that meets.
    domain: where weights live: the "simplex" (they sum to one, mine included), or the "box" (each from 0 to 1).
    pair: the chance that a pair meets in a round; 0 is one in the number of peers.
    rho: how strongly weights pull: the part of the way in a round, or a spring's strength.
    pull: a "merge" once a round, or a "spring" in every step of training.
    clip: a neighbour's gradient counts as no longer than mine; false takes it as it is, as in the paper.
    dropout: my gradients are taken with dropout on, if the model has any, as in the authors' code.
    """

    gamma: float = 1.0
    domain: Literal["simplex", "box"] = "simplex"
    pair: float = 0.0
    rho: float = 0.02
    pull: Literal["merge", "spring"] = "merge"
    clip: bool = True
    dropout: bool = True

    def __post_init__(self) -> None:
        if not (self.gamma > 0.0 and self.rho > 0.0):
            raise ValueError("gamma and rho are positive")
        if not 0.0 <= self.pair <= 1.0:
            raise ValueError("pair is a chance, from 0 to 1")
        if self.domain not in ("simplex", "box") or self.pull not in ("merge", "spring"):
            raise ValueError("domain is 'simplex' or 'box', and pull 'merge' or 'spring'")
        if self.pull == "merge" and self.rho > 1.0:
            raise ValueError("a merge goes all of the way at most: rho is at most 1")

    @property
    def pairing(self) -> Pairing:
        """It lives on what neighbours answer."""
        return Pairing(self.pair, is_noisy=self.dropout)

    def agreement(self, product: float, mine: float, theirs: float) -> float:
        """The inner product, of a neighbour's gradient that is no longer than mine."""
        return product * min(1.0, mine / theirs) if self.clip and theirs > 0.0 else product

    def spring(self, kept: SchemeState) -> float:
        """Its strength for a row that gives all to others; 0 if the pull is a merge."""
        return kept.tables.get(SPRING, {}).get(STRENGTH, 0.0)

    def scores(self, me: PeerId, adapters: Mapping[PeerId, Adapter], context: TrustContext) -> Judgement:
        """Logarithms of the row's weights: a softmax of them is the row."""
        others = sorted(peer for peer in adapters if peer != me)
        if not others:
            return Judgement(scores={me: 0.0}, kept=context.kept)
        before = context.kept.tables.get(WEIGHTS, {})
        weights = self.weights(me, others, before, context.products)
        total = math.fsum(weights[peer] for peer in others)
        is_spring = self.pull == "spring"
        reach = 1.0 if is_spring else self.rho
        most = max(1.0, reach * total)  # weights of a box may come to more than there is to give
        row = {peer: reach * weights[peer] / most for peer in others}
        row[me] = max(LEAST, 1.0 - math.fsum(row.values()))
        tables = {WEIGHTS: carried(before, weights)}
        kept = SchemeState(tables | ({SPRING: {STRENGTH: self.rho * most}} if is_spring else {}))
        return Judgement(scores={peer: _logarithm(row[peer]) for peer in adapters}, kept=kept)

    def weights(
        self, me: PeerId, others: list[PeerId], before: Mapping[str, float], products: Mapping[PeerId, float]
    ) -> dict[PeerId, float]:
        """After a step of the inner problem, of those who are here; `before`: of all that were ever here."""

        def stepped(peer: PeerId, start: float) -> float:
            return before.get(peer, start) + self.gamma * products.get(peer, 0.0)

        if self.domain == "box":
            return onto_box({peer: stepped(peer, 1.0) for peer in others})
        even = 1.0 / len(others)
        return onto_simplex({me: before.get(me, 0.0), **{peer: stepped(peer, even) for peer in others}})


def onto_simplex(point: Mapping[PeerId, float]) -> dict[PeerId, float]:
    """The nearest point whose entries are not negative and sum to one. ValueError for what is not finite."""
    falling = sorted(point.values(), reverse=True)
    if not all(math.isfinite(entry) for entry in falling):
        raise ValueError(f"a projection is of finite numbers, not of {dict(point)}")
    top = falling[0]
    shift, total = 0.0, 0.0
    for count, entry in enumerate(falling, start=1):
        total += entry - top  # relative to the largest, so that a huge one takes nothing from the others' digits
        candidate = (1.0 - total) / count
        if entry - top + candidate > 0.0:
            shift = candidate
    raised = {peer: max(0.0, entry - top + shift) for peer, entry in point.items()}
    whole = math.fsum(raised.values())
    return {peer: weight / whole for peer, weight in raised.items()}


def onto_box(point: Mapping[PeerId, float]) -> dict[PeerId, float]:
    """The nearest point whose entries lie between 0 and 1."""
    return {peer: min(1.0, max(0.0, entry)) for peer, entry in point.items()}


def _logarithm(weight: float) -> float:
    return math.log(weight) if weight > 0.0 else -math.inf
