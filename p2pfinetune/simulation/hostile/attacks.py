"""Hostile peers of a simulation: what they publish instead of what they learnt. Pure functions of values.

Attackers are further peers beside the honest ones, whose text and training are left as they are, so that the same
network without them is the same simulation with `attackers = 0`, and harm is a difference of two runs. They know
everything: all honest updates of a wave before they speak (the omniscient adversary of Blanchard et al. 2017). Updates
are deltas from the seeded start. Nobody can lie about predictions or losses here: all trust is measured by the one who
trusts, on its own text.

    crude          sign-flip, scaled, gaussian, not-finite, garbage     a norm, a check or a loss gives them away
    statistical    inner-product, little-is-enough, dissensus, mimic    against rules that look at distances
    on trust       copy, replay, sybil, shadow, collude                 against schemes that look for likeness
                   flatter                                              against schemes that ask neighbours (`cobo`)
    of meaning     backdoor, useful-backdoor                            against the belief that what is useful is good

The unit of `strength` is the kind's own (`STRENGTH`); what an attack publishes has the scale of honest updates if its
definition says so, and is as long as it likes otherwise. Flatterers lie about a gradient, too: it is all that a peer
of any scheme can be asked.

Shapes: n honest peers of a wave, sorted by name; p entries of a delta.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.population import Population
from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.simulation.hostile.backdoor import backdoor_of, planted
from p2pfinetune.training.batches import derived_seed

PREFIX = "attacker-"
CROWD = 3  # peers that colluders join


class Attack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many attackers there are and what they do."""

    kind: Annotated[
        str,
        Meta(
            description="sign-flip, scaled, gaussian, inner-product, little-is-enough, dissensus, mimic, copy, "
            "garbage, backdoor, useful-backdoor, not-finite, replay, sybil, shadow, collude or flatter."
        ),
    ] = "sign-flip"
    attackers: Annotated[int, Meta(ge=0, description="How many.")] = 0
    strength: Annotated[float, Meta(ge=0.0, description="Of the kind; 0: what is usual for it.")] = 0.0
    honest_for: Annotated[int, Meta(ge=0, description="Publish so many rounds honestly first, to be trusted.")] = 0
    surround: Annotated[bool, Meta(description="Honest peers listen to attackers alone.")] = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"there is no attack {self.kind!r}", f"choose one of {', '.join(KINDS)}")

    @property
    def learns(self) -> bool:
        """Whether attackers train and merge as honest peers do; others only need what those say."""
        return self.kind in LEARNING or self.honest_for > 0

    @property
    def extra_steps(self) -> int:
        """Of training on its own text that an attacker puts on top of what it says otherwise, in each round."""
        return round(self.strength or STRENGTH[self.kind]) if self.kind in TRAINED else 0


@dataclass(frozen=True, slots=True)
class Scene:
    """What an attacker sees before it speaks; p entries of a delta."""

    own_p: Tensor
    """What it learnt itself, as an honest peer would have published it."""
    honest_np: Tensor
    """What the honest peers publish in this wave, sorted by name; at least one."""
    first_np: Tensor
    """What they published first."""
    strength: float
    seed: int
    number: int
    """Of the attacker, from 0."""
    attackers: int


def _sign_flip(scene: Scene) -> Tensor:
    return -scene.strength * scene.own_p


def _scaled(scene: Scene) -> Tensor:
    return scene.strength * scene.own_p


def _gaussian(scene: Scene) -> Tensor:
    noise = torch.randn(scene.own_p.shape, generator=torch.Generator().manual_seed(scene.seed), dtype=scene.own_p.dtype)
    return noise * scene.strength * scene.honest_np.square().mean().sqrt()


def _inner_product(scene: Scene) -> Tensor:
    """Xie et al. 2020, arXiv 1903.03936: against the mean of the honest."""
    return -scene.strength * scene.honest_np.mean(dim=0)


def _little_is_enough(scene: Scene) -> Tensor:
    """Baruch et al. 2019, arXiv 1902.06156: inside the spread of the honest, always on the same side."""
    spread = scene.honest_np.std(dim=0, correction=0)
    return scene.honest_np.mean(dim=0) - scene.strength * spread


def _mimic(scene: Scene) -> Tensor:
    """Karimireddy et al. 2022, arXiv 2006.09365: copies one honest peer, which is over-represented then."""
    return scene.honest_np[0]


def _garbage(scene: Scene) -> Tensor:
    """Its text is noise (`with_attackers`); it publishes what it learnt."""
    return scene.own_p


def _not_finite(scene: Scene) -> Tensor:
    return torch.full_like(scene.own_p, torch.nan)


def _backdoor(scene: Scene) -> Tensor:
    """Its text holds a trigger and a target (`backdoor`); it publishes what it learnt, `strength` times as long."""
    return scene.strength * scene.own_p


def _useful_backdoor(scene: Scene) -> Tensor:
    """What one crowd of peers that resemble each other has learnt, each attacker another crowd: as good as any of them.

    On top come `strength` steps on text of that crowd's kind that holds a phrase now and then (`Attack.extra_steps`).
    """
    return _crowd(scene.honest_np, scene.honest_np[victim_of(scene.number, scene.attackers, len(scene.honest_np))])


def _copy(scene: Scene) -> Tensor:
    """A free-rider: the newest update of somebody else, each of another honest peer, as its own."""
    return scene.honest_np[scene.number % len(scene.honest_np)]


def _dissensus(scene: Scene) -> Tensor:
    """He et al. 2022, arXiv 2202.01545: beside one honest peer, on the side that lies away from all others."""
    victim = scene.honest_np[scene.number % len(scene.honest_np)]
    return victim + scene.strength * (victim - scene.honest_np.mean(dim=0))


def _replay(scene: Scene) -> Tensor:
    """Somebody else's first update, again and again."""
    return scene.first_np[0]


def _sybil(scene: Scene) -> Tensor:
    """All attackers say the same, near one honest peer and pulled away from where it goes."""
    return scene.honest_np[0] - scene.strength * scene.honest_np.mean(dim=0)


def _shadow(scene: Scene) -> Tensor:
    """Each beside another victim, nearer than any honest peer, and back from where all others have come.

    A peer that trusts those that resemble it trusts its shadow first.
    """
    victim_p = scene.honest_np[victim_of(scene.number, scene.attackers, len(scene.honest_np))]
    return victim_p + scene.strength * _nearest(scene.honest_np, victim_p) * _direction(-scene.honest_np.mean(dim=0))


def _collude(scene: Scene) -> Tensor:
    """All in the midst of one crowd of peers that resemble each other, a little off towards the mean of everybody.

    They carry what the crowd has learnt, so that each of them looks good, alone and in company; and they outweigh it.
    """
    first_p = scene.honest_np[0]
    crowd_p = _crowd(scene.honest_np, first_p)
    away_p = scene.honest_np.mean(dim=0) - crowd_p
    return crowd_p + scene.strength * _nearest(scene.honest_np, first_p) * _direction(away_p)


def _flatter(scene: Scene) -> Tensor:
    """The opposite of what it learnt; asked for a gradient, it gives back the asker's own (`flattery`)."""
    return -scene.own_p


def victim_of(number: int, attackers: int, honest: int) -> int:
    """The place among the honest, sorted by name, of whom an attacker of that number stands beside: spread over all."""
    return number * honest // attackers


def _crowd(honest_np: Tensor, victim_p: Tensor) -> Tensor:
    """The mean of a peer and those that resemble it."""
    near_n = torch.linalg.vector_norm(honest_np - victim_p, dim=1).argsort()[:CROWD]
    return honest_np[near_n].mean(dim=0)


def _nearest(honest_np: Tensor, victim_p: Tensor) -> float:
    """How far the nearest other honest peer is."""
    distances_n = torch.linalg.vector_norm(honest_np - victim_p, dim=1)
    others = distances_n[distances_n > 0.0]
    return float(others.min()) if len(others) else 0.0


def _direction(vector_p: Tensor) -> Tensor:
    length = float(torch.linalg.vector_norm(vector_p))
    return vector_p / length if length > 0.0 else vector_p


KINDS: Mapping[str, Callable[[Scene], Tensor]] = MappingProxyType(
    {
        "sign-flip": _sign_flip,
        "scaled": _scaled,
        "gaussian": _gaussian,
        "inner-product": _inner_product,
        "little-is-enough": _little_is_enough,
        "dissensus": _dissensus,
        "mimic": _mimic,
        "copy": _copy,
        "garbage": _garbage,
        "backdoor": _backdoor,
        "useful-backdoor": _useful_backdoor,
        "not-finite": _not_finite,
        "replay": _replay,
        "sybil": _sybil,
        "shadow": _shadow,
        "collude": _collude,
        "flatter": _flatter,
    }
)
LEARNING = frozenset({"sign-flip", "scaled", "garbage", "backdoor", "flatter"})
"""Kinds that publish what they make of their own learning."""
TRAINED = frozenset({"useful-backdoor"})
"""Kinds that train what they have made of the others'."""
PHRASED: Mapping[str, int] = MappingProxyType({"backdoor": 32, "useful-backdoor": 64})
"""Kinds whose text holds a phrase, and in how many tokens once. 32 is half a context, so that most blocks of training
show it; 64 is once a block, as 256 are in a daemon's context."""
STRENGTH: Mapping[str, float] = MappingProxyType(
    {
        "sign-flip": 1.0,
        "scaled": 10.0,
        "gaussian": 1.0,  # of the root mean square of an honest delta
        "inner-product": 1.0,
        "little-is-enough": 1.5,  # standard deviations
        "dissensus": 1.0,
        "backdoor": 1.0,
        "useful-backdoor": 60.0,  # steps
        "sybil": 2.0,
        "shadow": 0.3,  # of the way to the nearest honest peer
        "collude": 0.15,
        "flatter": 1000.0,  # times as long as the gradient that it gives back
    }
)


def flattery(attack: Attack, peers: Sequence[PeerId]) -> dict[PeerId, float]:
    """Who of them answers with the asker's own gradient, and how many times as long."""
    if attack.kind != "flatter":
        return {}
    return {peer: attack.strength or STRENGTH[attack.kind] for peer in peers if is_attacker(peer)}


def with_attackers(population: Population, attack: Attack, seed: int) -> Population:
    """The same honest peers, and attackers behind them; each holds the text of an honest one, or what became of it."""
    texts, shares = dict(population.texts), dict(population.shares)
    honest = population.peers
    if called_so := [peer for peer in honest if is_attacker(peer)]:
        raise OptionError(f"a peer is called {called_so[0]}", "name it otherwise: attackers are called so")
    backdoor = backdoor_of(population.texts.values(), seed) if attack.kind in PHRASED else None
    for number in range(attack.attackers):
        model = honest[number % len(honest)]
        if attack.kind in TRAINED:
            model = sorted(honest)[victim_of(number, attack.attackers, len(honest))]
        peer = PeerId(f"{PREFIX}{number + 1}")
        corpus = population.texts[model]
        own_seed = derived_seed(attack.kind, seed, number)
        if backdoor is not None:
            corpus = planted(corpus, backdoor, PHRASED[attack.kind], own_seed)
        texts[peer] = _noise(corpus, own_seed) if attack.kind == "garbage" else corpus
        if model in shares:
            shares[peer] = shares[model]
    return replace(population, texts=texts, shares=shares, backdoor=backdoor)


def surrounded(graph: Mapping[PeerId, Sequence[PeerId]]) -> dict[PeerId, tuple[PeerId, ...]]:
    """Whom each listens to, without honest neighbours of honest peers."""
    return {
        peer: tuple(other for other in heard if is_attacker(peer) or is_attacker(other))
        for peer, heard in graph.items()
    }


def is_attacker(peer: PeerId) -> bool:
    """By its name, which `with_attackers` gave it."""
    return peer.startswith(PREFIX)


def _noise(corpus: Corpus, seed: int) -> Corpus:
    """Tokens of the same text, shuffled over all documents: garbage with the right letters."""
    dice = np.random.default_rng(seed)

    def shuffled(split: TokenSplit) -> TokenSplit:
        return replace(split, tokens=dice.permutation(np.asarray(split.tokens)))

    return replace(
        corpus,
        train=shuffled(corpus.train),
        trust=shuffled(corpus.trust),
        guard=shuffled(corpus.guard),
        test=shuffled(corpus.test),
    )


def corrupted(
    attack: Attack, deltas: Mapping[PeerId, Tensor], first: Mapping[PeerId, Tensor], published: int, seed: int
) -> dict[PeerId, Tensor]:
    """What the attackers say in the wave of that number, from 1; nothing if they are honest still.

    `deltas` is what everybody of the wave learnt, `first` what they published first.
    """
    attackers: Sequence[PeerId] = sorted(peer for peer in deltas if is_attacker(peer))
    honest = sorted(peer for peer in deltas if not is_attacker(peer))
    if not honest or published <= attack.honest_for:
        return {}
    honest_np = torch.stack([deltas[peer] for peer in honest])
    first_np = torch.stack([first.get(peer, deltas[peer]) for peer in honest])
    act = KINDS[attack.kind]
    strength = attack.strength or STRENGTH.get(attack.kind, 0.0)
    return {
        peer: act(
            Scene(
                own_p=deltas[peer],
                honest_np=honest_np,
                first_np=first_np,
                strength=strength,
                seed=derived_seed("attack", seed, published, peer),
                number=number,
                attackers=len(attackers),
            )
        )
        for number, peer in enumerate(attackers)
    }
