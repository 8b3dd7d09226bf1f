"""A mixture of predictions: what several adapters say of the next token, by weights learnt on the own held-out text.

A merge is one adapter somewhere between others, and what one of them knows that the mean does not is lost. A mixture
runs its members beside one another: the personal adapter, perhaps the own one before the merge, and neighbours'. It
costs as many passes as it has members, so it is what is *served*, and nothing is trained from it (docs/adr/0045).

    p(next) = sum_j w_j p_j(next),     w = argmax  sum_t log sum_j w_j p_j(t)  +  sum_j prior_j log w_j

The likelihood is concave in w, and expectation maximisation (Dempster, Laird and Rubin 1977; of given language models
Jelinek and Mercer 1980) finds its maximum by multiplications alone: weights stay positive and sum to one. The prior
counts as PRIOR tokens, spread over the members evenly, so that a small split does not choose among members that it
cannot tell apart.

Who takes part is found by greedy forward selection (Caruana et al. 2004): beside the personal adapter whoever lowers
the loss of the mixture most, and so on, up to MEMBERS. Those whom the trust row weighs most are the wrong ones: they
are like me, so that the merge holds most of what they know; a mixture gains by those who know something else.

A thousand tokens of a trust split are few to learn on, and as many of a guard split few to judge by, so both do both,
by cross-fitting (Chernozhukov et al. 2018): members and weights of the trust split are judged on the guard split, those
of the guard split on the trust split, each on text that it has not seen; what is served has learnt on both.

A neighbour weighs no more than in a merge (docs/adr/0018): what is above `max_share` goes to the personal adapter.

Shapes: k members, n tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow

Losses = NDArray[np.float64]
"""(k, n) of each member at each token, in nats."""
Weights = NDArray[np.float64]
"""(k,), not negative, summing to one."""

PERSONAL, OWN = "personal", "own"
MEMBERS = 3
"""The personal adapter counted: each is a pass for every word that is said. Three bring nine tenths of what all do."""
CANDIDATES = 8
"""Neighbours that are measured, those whom the row weighs most; each is a run over both splits."""
PRIOR = 10.0  # tokens; more of it cost, on development seeds
LEAST = 0.02  # of the weight: less is not worth a pass
STEPS, GLANCE = 200, 25  # of expectation maximisation, for weights and for finding a member

ByToken = Callable[[Sequence[Adapter]], tuple[Losses, Losses]]
"""Losses of these adapters at each token of the trust and of the guard split."""


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Members by name, the personal adapter among them, and how much each weighs: positive, summing to one."""

    members: Mapping[str, Adapter]
    weights: Mapping[str, float]
    loss: float = float("inf")
    """On the guard split, by what was learnt on the trust split alone: nats a token."""
    gain: float = 0.0
    """How much lower than the personal adapter's over both splits, each by what was learnt on the other."""

    def __post_init__(self) -> None:
        if self.members.keys() != self.weights.keys() or PERSONAL not in self.members:
            raise ValueError("a mixture weighs its members, and the personal adapter is one of them")
        if min(self.weights.values()) <= 0.0 or abs(sum(self.weights.values()) - 1.0) > 1e-6:
            raise ValueError("weights of a mixture are positive and sum to one")

    @property
    def adapters(self) -> list[Adapter]:
        """In the order of the weights."""
        return [*self.members.values()]

    def losses(self, losses_kn: Losses) -> Losses:
        """(n,) of the mixture, from those of its members in their order."""
        return mixed(losses_kn, np.array([*self.weights.values()]))


def mixed(losses_kn: Losses, weights_k: Weights) -> Losses:
    """(n,) -log of the weighted mean of probabilities, never through a probability of zero."""
    least_n = losses_kn.min(axis=0)
    found: Losses = least_n - np.log(weights_k @ np.exp(least_n - losses_kn))
    return found


def learned(losses_kn: Losses, prior: float = PRIOR, steps: int = STEPS) -> Weights:
    """Of the most likely mixture; `prior` tokens were said by all members alike beforehand."""
    likely_kn = np.exp(losses_kn.min(axis=0) - losses_kn)
    members, tokens = losses_kn.shape
    weights_k = np.full(members, 1.0 / members)
    for _ in range(steps):
        parts_kn = weights_k[:, None] * likely_kn
        weights_k = ((parts_kn / parts_kn.sum(axis=0)).sum(axis=1) + prior / members) / (tokens + prior)
    found: Weights = weights_k / weights_k.sum()
    return found


def chosen(losses_kn: Losses, most_k: Weights, members: int = MEMBERS) -> Weights:
    """Of a mixture of the first and up to `members` - 1 others, zero of the rest; none above `most_k` but the first."""
    taken = [0]
    while len(taken) < min(members, len(losses_kn)):
        rest = [k for k in range(len(losses_kn)) if k not in taken]
        taken.append(min(rest, key=lambda k: _loss_of(losses_kn[[*taken, k]])))
    weights_k = np.zeros(len(losses_kn))
    weights_k[taken] = learned(losses_kn[taken])
    weights_k = np.minimum(np.where(weights_k < LEAST, 0.0, weights_k), most_k)
    weights_k[0] = 1.0 - weights_k[1:].sum()
    return weights_k


def _loss_of(losses_kn: Losses) -> float:
    return float(mixed(losses_kn, learned(losses_kn, steps=GLANCE)).mean())


def most_trusted(row: TrustRow, me: PeerId, neighbours: Mapping[PeerId, Adapter]) -> dict[str, Adapter]:
    """Candidates of the neighbours: of those that weigh something; ties go by id."""
    ranked = sorted((-weight, peer) for peer, weight in row.weights.items() if weight > 0.0 and peer != me)
    return {str(peer): neighbours[peer] for _, peer in ranked[:CANDIDATES] if peer in neighbours}


def blend_of(
    personal: Adapter, own: Adapter, friends: Mapping[str, Adapter], by_token: ByToken, max_share: float = 1.0
) -> Blend | None:
    """The mixture of a round; None if nobody beside the personal adapter is worth a pass.

    `friends`: adapters of neighbours, of whom none weighs more than `max_share`.
    """
    members = {PERSONAL: personal, **({OWN: own} if own is not personal else {}), **friends}
    if len(members) < 2:
        return None
    trust_kn, guard_kn = by_token([*members.values()])
    both_kn = np.concatenate([trust_kn, guard_kn], axis=1)
    if not np.isfinite(both_kn).all():
        return None
    most_k = np.array([max_share if name in friends else 1.0 for name in members])
    kept = {n: float(w) for n, w in zip(members, chosen(both_kn, most_k), strict=True) if w > 0.0}
    if len(kept) < 2 or PERSONAL not in kept:
        return None
    on_guard_n = mixed(guard_kn, chosen(trust_kn, most_k))
    crossed_n = np.concatenate([mixed(trust_kn, chosen(guard_kn, most_k)), on_guard_n])
    return Blend(
        {name: members[name] for name in kept},
        kept,
        loss=float(on_guard_n.mean()),
        gain=float((both_kn[0] - crossed_n).mean()),
    )
