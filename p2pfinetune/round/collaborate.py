"""One round's mathematics: my adapter and my neighbours' to a trust row and a merged adapter. Pure composition.

Whose row it is, the trust scheme's or that of the second look, a merge by it goes through `bounded` first: no single
neighbour weighs more than a bound, whatever a scheme thinks of it, so that one that carries something harmful beside
what is useful is diluted by me at least (docs/adr/0018).

    adapters --norm_outliers--> permitted --scheme.row--> row --bounded--> row --rule.merge--> merged --with_own_kept-->

Names become objects here and only here: `rule_for` and `scheme_for` make the plug-ins of an option, and refuse pairs
that mean nothing together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from p2pfinetune.errors import OptionError
from p2pfinetune.merge import RULES, MergeRule
from p2pfinetune.model.adapter import AdaptedModel, Adapter, padded
from p2pfinetune.model.parts import named_as, of_expert
from p2pfinetune.names import PeerId, Refusal, TrustRow
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.comparison import copies, norm_outliers
from p2pfinetune.round.update import ALL_SHARED, with_own_kept
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.trust import NOTHING, SCHEMES, SchemeState, TrustContext, TrustScheme, must_go_together


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of hearing the neighbours."""

    row: TrustRow
    """The trust scheme's, with no bound on anybody's weight."""
    refused: Mapping[PeerId, Refusal]
    """Whose updates stand out from all others; they weigh nothing."""
    copies: tuple[tuple[PeerId, PeerId], ...]
    """Pairs of which one copied the other, me included."""
    kept: SchemeState = NOTHING
    """What the scheme remembers of it."""


def collaborate(
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    scheme: TrustScheme,
    context: TrustContext,
    allowed: frozenset[PeerId] | None = None,
) -> Compared:
    """The row over me and all neighbours. Outliers are neither scored nor merged."""
    adapters = {**neighbours, me: own}
    deltas = {peer: context.moved(adapter) for peer, adapter in adapters.items()}
    refused = norm_outliers(deltas[me], {peer: delta for peer, delta in deltas.items() if peer != me})
    alike = copies(deltas)
    del deltas  # as large as all adapters, and the scheme is about to run the model
    permitted = (adapters.keys() if allowed is None else allowed) - refused.keys()
    row, kept = scheme.judged(me, adapters, context, frozenset(permitted))
    return Compared(row, refused, alike, kept)


def bounded(row: TrustRow, me: PeerId, max_share: float) -> TrustRow:
    """No neighbour above `max_share`, in no layer; what is taken from those above goes to my own adapter.

    To the others it must not go: they have earned no more by it, and of two attackers the second would get what the
    first lost. Order among neighbours stays, and twice is once: the same object if nobody is above.
    """

    def bound(weights: Mapping[PeerId, float]) -> Mapping[PeerId, float]:
        excess = {peer: weight - max_share for peer, weight in weights.items() if peer != me and weight > max_share}
        found = {peer: max_share if peer in excess else weight for peer, weight in weights.items()}
        return {**found, me: weights[me] + math.fsum(excess.values())}

    is_above = any(weight > max_share for weights in row.rows for peer, weight in weights.items() if peer != me)
    return row.changed(bound) if is_above else row


def merged_by(
    row: TrustRow,
    me: PeerId,
    own: Adapter,
    neighbours: Mapping[PeerId, Adapter],
    rule: MergeRule,
    spec: AdapterSpec = ALL_SHARED,
) -> Adapter:
    """The merge by a row; the very object `own` if nobody else weighs anything.

    The rule sees only peers that weigh something, so that one who is not listened to cannot disturb the arithmetic; and
    whatever it does to factors that are not shared is undone, be it a rounding.
    """
    heard = {peer: weight for peer, weight in row.weights.items() if weight > 0.0}
    if heard.keys() == {me}:
        return own
    if spec.sharing == "individual":
        return rest_of_world(row, me, own, neighbours, rule)
    adapters = {**neighbours, me: own}
    if spec.experts > 1:  # a rule sees what is shared, as if it were all
        adapters = {peer: shared_part(adapter, spec) for peer, adapter in adapters.items()}
    return with_own_kept(_merge(row, adapters, adapters[me], rule), own, spec)


def shared_part(adapter: Adapter, spec: AdapterSpec) -> Adapter:
    """What leaves the device, of an adapter that has more than that in some layers."""
    return Adapter({name: tensor for name, tensor in adapter.tensors.items() if spec.shares(name)})


def rest_of_world(
    row: TrustRow, me: PeerId, own: Adapter, neighbours: Mapping[PeerId, Adapter], rule: MergeRule
) -> Adapter:
    """FedALT's merge: the others' own adapters become the one beside mine, which stays as it is.

    By the row without me: of a uniform one that is their mean, as in FedALT. A rule that asks for an adapter of mine
    gets the rest of the world as it was. What weighs the two against each other is trained, and not the row's to say.
    """
    others = row.changed(partial(_without_me, me=me))
    adapters = {peer: Adapter(of_expert(adapter.tensors, 0)) for peer, adapter in neighbours.items()}
    rest = _merge(others, adapters, Adapter(of_expert(own.tensors, 1)), rule)
    found = {named_as(name, 1): tensor for name, tensor in rest.tensors.items()}
    return Adapter({**own.tensors, **found})


def _without_me(weights: Mapping[PeerId, float], me: PeerId) -> Mapping[PeerId, float]:
    """The others' alone; if nobody else weighs anything in a layer, all others alike."""
    others = {peer: weight for peer, weight in weights.items() if peer != me}
    total = math.fsum(others.values())
    return {peer: weight / total if total > 0.0 else 1.0 / len(others) for peer, weight in others.items()}


def _merge(row: TrustRow, adapters: Mapping[PeerId, Adapter], own: Adapter, rule: MergeRule) -> Adapter:
    """By the one row, or every layer by its own as if it were all of the adapter."""
    if not row.layers:
        heard = {peer: weight for peer, weight in row.weights.items() if weight > 0.0}
        return rule.merge(TrustRow(heard), {peer: adapters[peer] for peer in heard}, own)
    tensors: dict[str, Tensor] = {}
    for path, weights in row.layers.items():
        parts = {peer: layer_of(adapters[peer], path) for peer, weight in weights.items() if weight > 0.0}
        tensors |= _merge(TrustRow(weights), parts, layer_of(own, path), rule).tensors
    return Adapter(tensors)


def layer_of(adapter: Adapter, path: str) -> Adapter:
    """The factors of one layer, as an adapter of that layer alone."""
    return Adapter({name: adapter.tensors[name] for name in (f"{path}.lora_A", f"{path}.lora_B")})


def held_back(row: TrustRow, me: PeerId, part: float) -> TrustRow:
    """The row on the way from my own adapter to it: `part` 1 is the row itself, 0 all weight on me."""

    def towards_me(weights: Mapping[PeerId, float]) -> Mapping[PeerId, float]:
        nearer = {peer: part * weight for peer, weight in weights.items()}
        return {**nearer, me: nearer[me] + (1.0 - part)}

    return row.changed(towards_me)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a round ends with, its guard loss, why it is not the merge, and whether the optimizer's moments fit it."""

    personal: Adapter
    on_guard: Evaluation
    """Of the adapter that was judged."""
    loss: float
    reason: str
    moments_fit: bool


def as_heard_by(rule: MergeRule, adapted: AdaptedModel, own: Adapter) -> tuple[Adapter, Adapter]:
    """The start, and my adapter, of the rank that neighbours are heard of: the network's, if the rule takes any."""
    if rule.any_rank and own.schema != adapted.start.schema:
        return adapted.start, padded(own, adapted.start)
    return adapted.initial, own


def rule_for(name: str, options: Mapping[str, Any], spec: AdapterSpec) -> MergeRule:
    """OptionError for a rule that has no meaning for the factors that this network shares."""
    rule = RULES.make(name, options)
    if spec.sharing not in rule.sharings:
        fit = ", ".join(other for other in RULES.names() if spec.sharing in RULES.find(other).sharings)
        raise OptionError(
            f"{name} needs both factors of an adapter as they are at all peers, and sharing {spec.sharing} does not "
            "tell them so",
            f"choose sharing both, or another merge rule: {fit}",
        )
    return rule


def scheme_for(name: str, options: Mapping[str, Any], rule: MergeRule, spec: AdapterSpec = ALL_SHARED) -> TrustScheme:
    """A merge of products is judged by similarity of products: what the two see of an adapter should be the same.

    OptionError for a scheme that gives each layer a row, with a rule that cannot merge by it, and for one that looks at
    products where a layer has several of them.
    """
    chosen = dict(options)
    if rule.on_products and "of" in SCHEMES.options(name):
        chosen.setdefault("of", "products")
    if spec.experts > 1 and chosen.get("of") == "products":
        raise OptionError(
            f"{name} of products asks for one product in a layer, and with sharing {spec.sharing} some have several",
            "leave out --trust-option of=products",
        )
    scheme = SCHEMES.make(name, chosen)
    must_go_together(scheme, rule)
    return scheme
