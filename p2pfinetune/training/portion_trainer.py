"""Training a portion of the adapter at a time, each round another: by whatever trains, on a model of it alone.

A turn is a round of one peer, counted by that peer alone (`turn` ends one). Rounds are local here, and no server calls
an odd or an even one, or draws for all; so a turn's portion follows from the peer, its seed and the number of the turn,
and is told with what it sends (`round.told_portion`).

`alternate`, after RoLoRA: odd turns train B and even ones A, with the other factor fixed; B first, for at B = 0 A has
no gradient. In lock step this is RoLoRA: all tell B, whose mean beside one A is exact, then all A. Peers that are out
of step tell different factors in one round, and both are merged at once: each factor is a mean over those who told it.
To hear only the factor that I train would be exact more often, and two peers in opposite turns would never hear one
another. What the mean then misses is a product of two changes of one round each (`merge._base`), and once A differs
between personal models, no order of turns is exact. Each factor's moments rest while the other is trained.

`sketch`, after FSLoRA: the device trains k of the rank's components, drawn anew each turn, as a LoRA model of rank k.
Its alpha / k is the network's alpha / r times the sketch's r / k, so nothing else says that it is a sketch. There is no
server to keep the global (B, A): each peer's own adapter of all r components is that, kept in the host's memory and in
the checkpoint while k of them are in work. Gradients, moments, what the adapter adds to a pass, and what is sent, scale
with k / r; measuring, merging and speaking use all r, which takes forward passes alone. Moments begin anew each turn,
as the paper's clients do: those of the components drawn last say nothing about these.

How a neighbour's portion is merged: what it did not tell is mine (`LoraUpdate.adapter`), so the mean by a row moves
each component by the weights of those who told it, and not at all if nobody did:

    theta <- theta + sum_j w_j m_j (theta_j - theta)        m_j: 1 if j told that component, else 0

which is the paper's mean of masked differences, with my adapter in the place of the server's. Dividing by the weights
of those who told it instead would let one peer that tells much of little decide what is merged of it.

The state is that of the trainer in work, with the whole adapter in the portion's place, and the number of the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
import numpy as np

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach
from p2pfinetune.model.base import Base
from p2pfinetune.model.portion import SUFFIX, Factor, Portion
from p2pfinetune.options import TrainingOptions
from p2pfinetune.training import levels
from p2pfinetune.training.batches import derived_seed
from p2pfinetune.training.levels import Reader
from p2pfinetune.training.trainer import Pull, StepReport, Trainer, TrainerState

if TYPE_CHECKING:
    from p2pfinetune.mezo.steps import StepList
    from p2pfinetune.training.gradient_trainer import GradientTrainer
    from p2pfinetune.training.trainers import TrainerKind

TURNS = "turns"  # in checkpoints: how many have ended
RESTING = "resting_"  # in front of the names of what the other factor's trainer gathered


class Order(Protocol):
    """Which portion is in work, and the model of it."""

    def portion(self, turn: int) -> Portion:
        """Of a turn, counted from 0."""
        ...

    def model(self, portion: Portion) -> AdaptedModel:
        """In which `portion.taken` of an adapter fits, and nothing else is trained."""
        ...


class Alternating:
    """B, A, B, A, ... of one live model."""

    def __init__(self, adapted: AdaptedModel) -> None:
        self._of: Mapping[Factor, AdaptedModel] = {f: replace(adapted, only=suffix) for f, suffix in SUFFIX.items()}

    def portion(self, turn: int) -> Portion:
        """B first."""
        return Portion("a" if turn % 2 else "b")

    def model(self, portion: Portion) -> AdaptedModel:
        """The live model, of which one factor is trained."""
        return self._of[portion.factor or "b"]


class Sketching:
    """`k` components of each target, all sets of k equally likely, and drawn for each target by itself."""

    def __init__(self, base: Base, adapted: AdaptedModel, seed: int) -> None:
        spec = adapted.spec
        self._rank, self._count, self._seed = spec.rank, spec.worked_rank, seed
        self._paths = adapted.targets
        self._narrow = attach(base, msgspec.structs.replace(spec, rank=self._count, own_rank=0, sharing="both"))

    def portion(self, turn: int) -> Portion:
        """Drawn from the seed, the turn and the target."""

        def drawn(path: str) -> tuple[int, ...]:
            dice = np.random.default_rng(derived_seed("sketch", self._seed, turn, path))
            return tuple(sorted(dice.permutation(self._rank)[: self._count].tolist()))

        return Portion(components={path: drawn(path) for path in self._paths})

    def model(self, portion: Portion) -> AdaptedModel:
        """A LoRA model of rank k with the network's alpha: the scale is the sketch's."""
        return self._narrow


class PortionTrainer:
    """A trainer of all of an adapter that works on a portion of it at a time."""

    def __init__(
        self, kind: TrainerKind, turns: Order, split: TokenSplit, options: TrainingOptions, start: Adapter
    ) -> None:
        self._kind, self._turns, self._split, self._options, self._start = kind, turns, split, options, start
        self._inners: dict[int, tuple[AdaptedModel, Trainer]] = {}
        self._turn, self._resting = 0, TrainerState(start, 0)
        self._pull: Pull | None = None
        self._whole = self._seen = start
        """All of it, and the portion in work as it was when that was put together."""
        self._begin(start)

    @property
    def portion(self) -> Portion:
        """What of the adapter is in work."""
        return self._part

    @property
    def steps(self) -> int:
        """Of all turns."""
        return self._inner.steps

    @property
    def adapter(self) -> Adapter:
        """All of it; the same object until something of it changes."""
        if self._inner.adapter is not self._seen:
            self._seen = self._inner.adapter
            self._whole = Adapter(self._part.put(self._whole.tensors, self._seen.tensors))
        return self._whole

    @property
    def adapted(self) -> AdaptedModel:
        """The model of the portion."""
        return self._inner.adapted

    @property
    def batched(self) -> GradientTrainer | None:
        """That of the portion, if its kind can share passes."""
        return self._inner.batched

    def share(self, stack: AdapterStack) -> None:
        """Nothing: the portion's model is another."""

    def mark(self) -> None:
        """Nothing: the numbers of a step mean nothing beyond its portion."""

    def steps_since(self, adapter: Adapter) -> StepList | None:
        """None, see `mark`."""
        return None

    def twin(self, split: TokenSplit) -> PortionTrainer:
        """Another one with the same turns, at the seeded start."""
        return PortionTrainer(self._kind, self._turns, split, self._options, self._start)

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """As far as the portion goes."""
        self._pull = Pull(adapter, strength) if adapter is not None and strength else None
        self._pull_portion()

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights, with the same portion in work."""
        if adapter.schema != self._start.schema:
            raise ValueError("the adapter does not fit this model")
        self._inner.set_adapter(self._cut(adapter))
        self._whole, self._seen = adapter, self._inner.adapter

    def turn(self) -> None:
        """A round has ended: the next portion is in work from now on."""
        self._turn += 1
        if self._turns.portion(self._turn) == self._part:
            return
        state, resting = self._inner.state(), self._resting
        self._resting = state if self._part.factor else self._nothing
        self._begin(self.adapter, replace(resting, steps=state.steps, kind=state.kind))

    def forget(self) -> None:
        """Of both factors."""
        self._inner.forget()
        self._resting = self._nothing

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._split = split
        for _, inner in self._inners.values():
            inner.reread(split)

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some steps of the portion in work."""
        return self._inner.run(steps, on_step)

    def state(self) -> TrainerState:
        """That of the trainer in work, of the whole adapter; and what rests."""
        here, rests = self._inner.state(), self._resting
        tensors = {**here.tensors, **{RESTING + kind: held for kind, held in rests.tensors.items()}}
        counts = {**here.counts, **{RESTING + name: count for name, count in rests.counts.items()}, TURNS: self._turn}
        return TrainerState(self.adapter, here.steps, here.kind, tensors, counts)

    def load_state(self, state: TrainerState) -> None:
        """Go on where `state` was taken; with another number of components in work, with fresh moments."""
        if state.adapter.schema != self._start.schema:
            raise CheckpointError("the saved weights are of another model or rank")
        self._turn = state.counts.get(TURNS, 0)
        tensors, resting_tensors = _divided(state.tensors)
        counts, resting_counts = _divided({name: count for name, count in state.counts.items() if name != TURNS})
        self._resting = replace(self._nothing, tensors=resting_tensors, counts=resting_counts)
        schema = self._turns.portion(self._turn).schema(self._start.schema)
        fits = all(schema.get(name) == tuple(t.shape) for held in tensors.values() for name, t in held.items())
        self._begin(state.adapter, replace(state, tensors=tensors if fits else {}, counts=counts if fits else {}))

    @property
    def _nothing(self) -> TrainerState:
        return TrainerState(self._start, 0)

    def _begin(self, adapter: Adapter, state: TrainerState | None = None) -> None:
        """Put the portion of this turn to work, with what its trainer had gathered."""
        self._part = portion = self._turns.portion(self._turn)
        model = self._turns.model(portion)
        if id(model) not in self._inners:
            self._inners[id(model)] = model, self._kind.trainer(model, self._split, self._options)
        self._inner = self._inners[id(model)][1]
        if state is None:
            self._inner.set_adapter(self._cut(adapter))
        else:
            self._inner.load_state(replace(state, adapter=self._cut(adapter)))
        self._whole, self._seen = adapter, self._inner.adapter
        self._pull_portion()

    def _cut(self, adapter: Adapter) -> Adapter:
        """What the model of the portion takes: of a factor alone, the other one is needed to run."""
        return adapter if self._part.factor else Adapter(self._part.taken(adapter.tensors))

    def _pull_portion(self) -> None:
        pull = self._pull
        self._inner.pull_towards(*((self._cut(pull.adapter), pull.strength) if pull else (None, 0.0)))


Value = TypeVar("Value")


def _divided(named: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Of what is in work, and of what rests."""
    working = {name: value for name, value in named.items() if not name.startswith(RESTING)}
    return working, {name.removeprefix(RESTING): value for name, value in named.items() if name not in working}


def trainer_for(
    kind: TrainerKind,
    base: Base,
    adapted: AdaptedModel,
    reader: Reader,
    options: TrainingOptions,
    stack: AdapterStack | None,
    owner: str,
) -> Trainer:
    """One at the seeded start: of all at once, by turns, or on two levels, as the network shares.

    `owner` is in what is drawn, so that peers of one seed draw other components.
    """
    if adapted.spec.sharing == "alternate":
        return PortionTrainer(kind, Alternating(adapted), reader().train, options, adapted.initial)
    if adapted.spec.sharing == "sketch":
        turns = Sketching(base, adapted, derived_seed("sketch", options.seed, owner))
        return PortionTrainer(kind, turns, reader().train, options, adapted.initial)
    return levels.trainer_for(kind, adapted, reader, options, stack)


def portion_of(trainer: Trainer) -> Portion | None:
    """What of the adapter is in work, and told; None: all of it."""
    return trainer.portion if isinstance(trainer, PortionTrainer) else None


def end_round(trainers: Iterable[Trainer]) -> None:
    """Those that work in turns go on to the next."""
    for trainer in trainers:
        if isinstance(trainer, PortionTrainer):
            trainer.turn()
