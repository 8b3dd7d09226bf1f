"""Some of a simulation's peers on one base model: they train together, publish, merge and are measured.

One shard holds all peers if one process is enough; a cluster has several. A shard knows neither the timetable nor the
clock, and its peers' numbers do not depend on who else is in it (beyond rounding).

Peers of one adapter spec share one live model and one stack (`batched`); peers of a lower own rank have another. The
weights of a peer live in its trainers, and are copied in when it runs. Twins train in the same passes as their owners.

What a peer publishes passes the codec and the checks of `round.update` as it does between daemons: 16 bits lose here
what they lose there, and an attacker's nonsense has to get through the same door.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from torch import Tensor

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.codec import CODECS, difference_codecs
from p2pfinetune.data.population import Population
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import FactorSet, attach, cut, factors_of, initial_adapter
from p2pfinetune.model.base import Base
from p2pfinetune.names import DEFAULT_ADAPTER, PeerId, Refusal, Which
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.privacy import privatised
from p2pfinetune.round.result import TrainReport
from p2pfinetune.round.told_portion import largest_portion
from p2pfinetune.round.update import KeyFrame, LoraUpdate, told, written
from p2pfinetune.scoring.difference import Difference, difference
from p2pfinetune.scoring.evaluate import Evaluation, measure_of
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.hostile.attacks import flattery
from p2pfinetune.simulation.hostile.backdoor import probes, target_loss
from p2pfinetune.simulation.middles import Meeting, agreements, meets
from p2pfinetune.simulation.timetable import Visit, Wave
from p2pfinetune.training.batches import derived_seed
from p2pfinetune.training.schedule import NOMINAL_STEPS
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainer import StepReport, Trainer, TrainerState
from p2pfinetune.training.trainers import chosen_kind

Agreements = Mapping[PeerId, Mapping[PeerId, float]]
"""By who asked and who was asked."""
NOT_A_NUMBER = b"\xff" * 64  # in bf16 and in fp32

PROBED: tuple[Which, ...] = ("base", "personal", "best")
REPORTED: tuple[Which, ...] = (*PROBED, "served")
OF_THE_TWIN: tuple[Which, ...] = ("local", "local_best")
PAIRED: tuple[Which, ...] = ("best", "local_best")


DocumentLoss = tuple[float, int]
"""Nats of all its tokens that were measured, and how many those are."""


@dataclass(frozen=True, slots=True)
class Tested:
    """Losses of one peer's models on its test split, in nats a token."""

    tokens: int
    loss: Mapping[str, float | None]
    against_alone: Difference | None
    """Served less alone, which is the better of the twin at its end and at its best; none without a twin."""
    documents: Mapping[str, tuple[DocumentLoss, ...]]
    """Of the best adapter, and of the twin's: for each document of the test split in order, so that runs are paired."""
    target: Mapping[str, float]
    """Likewise of a backdoor's target behind its trigger; of no model where nothing is planted."""


@dataclass(frozen=True, slots=True)
class SharedUpdate:
    """An update as its neighbours fetch it."""

    blob: bytes
    base: bytes | None = None
    """The key frame that it is a difference to: fetched by those who have not got it."""
    since_key: int = 0
    """How many publications ago that was published; 0: it is a key frame itself."""


class Shard:
    """Peers that share one live model for each rank that they hold."""

    def __init__(
        self,
        config: SimulationConfig,
        population: Population,
        peers: Sequence[PeerId],
        base: Base,
        places: Mapping[PeerId, int] | None = None,
    ) -> None:
        """`places`: where each peer stands among all, if this population is a part of them."""
        self._config, self._population = config, population
        self._base = base
        self._places = places or {peer: place for place, peer in enumerate(population.peers)}
        self._stacks: dict[AdapterSpec, AdapterStack] = {}
        """Live models, one for each rank that peers hold."""
        self._stack_of: dict[PeerId, AdapterStack] = {}
        self._learners = {peer: self._begun(peer) for peer in peers}
        self._reports: dict[PeerId, TrainReport] = {}
        self._keys: dict[PeerId, KeyFrame] = {}
        """The last key frame of each peer, of a codec that writes differences."""

    def _begun(self, peer: PeerId) -> Learner:
        """Before its first round."""
        config, population, place = self._config, self._population, self._places[peer]
        start, spec = None, config.spec(place)
        if spec not in self._stacks:
            self._stacks[spec] = AdapterStack(attach(self._base, spec))
        stack = self._stack_of[peer] = self._stacks[spec]
        if not config.adapter.shared_start:
            shapes = {path: (a.shape[1], b.shape[0]) for path, a, b in stack.adapted.start.pairs()}
            own_seed = derived_seed("start", config.seed, peer) % 2**31
            start = cut(initial_adapter(shapes, msgspec.structs.replace(spec, init_seed=own_seed)), spec.held_rank)
        return Learner(
            self._base,
            population.texts[peer],
            config.learner_options(peer, place),
            me=peer,
            group="simulation",
            reference=population.reference if config.public_reference else None,
            adapted=stack.adapted,
            stack=stack,
            start=start,
        )

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """Who is here."""
        return tuple(self._learners)

    def train(self, peers: Iterable[PeerId]) -> None:
        """One round's steps of each of these peers, together."""
        learners = [self._learners[peer] for peer in peers]
        own: list[Trainer] = [learner.trainers[DEFAULT_ADAPTER] for learner in learners]
        others = [held for learner in learners for name, held in learner.trainers.items() if name != DEFAULT_ADAPTER]
        reports: dict[Trainer, list[StepReport]] = {}
        for stack in self._stacks.values():
            here = [trainer for trainer in (*own, *others) if trainer.adapted is stack.adapted]
            reports |= zip(here, train_together(here, self._config.steps, stack=stack), strict=True)
        by_turns = [trainer for trainer in (*own, *others) if trainer not in reports]  # on models of these alone
        if by_turns:
            reports |= zip(by_turns, train_together(by_turns, self._config.steps), strict=True)
        for learner, trainer in zip(learners, own, strict=True):
            self._reports[learner.me] = learner.trained(reports[trainer])
            learner.pieces.train(learner.own())

    def publish(self, peer: PeerId) -> SharedUpdate:
        """What its neighbours fetch."""
        key = self._keys.get(peer)
        hide = partial(self._hidden, peer) if self._config.privacy.clip else None
        said = self._learners[peer].write(self._config.codec, key, hide)
        if key is not None and said.is_difference:
            self._keys[peer] = KeyFrame(key.blob, key.publications + 1)
            return SharedUpdate(said.blob, key.blob, key.publications)
        if self._config.codec in difference_codecs():
            self._keys[peer] = KeyFrame(said.blob, publications=1)
        return SharedUpdate(said.blob)

    def told(self) -> dict[PeerId, tuple[bytes, bytes]]:
        """What every peer here would give a newcomer: its update, and the gates of it."""
        return {
            peer: (learner.encode(self._config.codec, partial(self._hidden, peer)), learner.pieces.encode() or b"")
            for peer, learner in self._learners.items()
        }

    def assemble(self, told: Mapping[PeerId, tuple[bytes, bytes]]) -> None:
        """Every peer begins anew, of what all others told."""
        for me in self._learners:
            learner, others = self._begun(me), {peer: said for peer, said in told.items() if peer != me}
            updates = {peer: learner.admit(update, self._config.codec) for peer, (update, _) in others.items()}
            gates = {peer: learner.pieces.admit(gates) for peer, (_, gates) in others.items()}
            learner.assemble(
                {peer: update for peer, update in updates.items() if not isinstance(update, Refusal)},
                {peer: found for peer, found in gates.items() if not isinstance(found, Refusal)},
            )
            self._learners[me] = learner

    def delta(self, peer: PeerId) -> Tensor:
        """How far it has come from the seeded start, as it publishes that, as one vector."""
        adapted = self._stack_of[peer].adapted
        own = self._learners[peer].own()
        return told(own, adapted.initial, lambda delta: self._hidden(peer, delta), adapted.spec).vector()

    def _update(self, delta_p: Tensor) -> FactorSet:
        """The other way round."""
        adapted = next(iter(self._stacks.values())).adapted  # all have the schema of the network's updates
        return factors_of(delta_p, adapted.shared_schema)

    def _hidden(self, peer: PeerId, delta: FactorSet) -> FactorSet:
        """Noise by the seed, since a simulation can be repeated: it hides nothing, and shows what hiding costs."""
        privacy = self._config.privacy
        if not privacy.clip:
            return delta
        dice = np.random.default_rng(derived_seed("privacy", self._config.seed, peer, self._learners[peer].steps))
        return privatised(delta, privacy.clip, privacy.noise, dice.bytes)

    def trained_on(self, deltas: Mapping[PeerId, Tensor], steps: int, published: int) -> dict[PeerId, Tensor]:
        """These deltas after some steps on their peers' text, at the full rate, with other batches in each round."""
        trainers = []
        for peer, delta_p in deltas.items():
            options = msgspec.structs.replace(self._learners[peer].training, total_steps=0)
            begun = NOMINAL_STEPS + published * steps  # behind the warm-up
            adapted, text = self._stack_of[peer].adapted, self._population.texts[peer].train
            adapter = LoraUpdate(self._update(delta_p)).adapter(adapted.initial)
            by = self._learners[peer].options
            trainers.append(chosen_kind(by).trainer(adapted, text, options))
            trainers[-1].load_state(TrainerState(adapter, begun, by.trainer))
        train_together(trainers, steps, stack=next(iter(self._stacks.values())))
        return {
            peer: told(trainer.adapter, trainer.adapted.initial, None, trainer.adapted.spec).vector()
            for peer, trainer in zip(deltas, trainers, strict=True)
        }

    def encode(self, delta_p: Tensor) -> SharedUpdate:
        """An update that somebody made up. No codec writes what is not finite: its last bytes are made by hand."""
        whole, sharing = self._update(delta_p.nan_to_num()), self._config.adapter.sharing
        portion = largest_portion(sharing, whole.schema)
        delta = FactorSet(portion.taken(whole.tensors)) if portion else whole
        blob = written(delta, CODECS.make(self._config.codec), whole.schema, None, portion).blob
        return SharedUpdate(blob if bool(delta_p.isfinite().all()) else blob[: -len(NOT_A_NUMBER)] + NOT_A_NUMBER)

    def agreements(self, wave: Wave, heard: Mapping[PeerId, Mapping[PeerId, SharedUpdate]]) -> Agreements:
        """What came of the pairs of a wave that meet; `heard`: what each peer of it hears. Of a scheme that asks."""
        meetings = []
        for visit in wave:
            pairing, here = self._learners[visit.peer].middle.pairing, heard[visit.peer]
            if pairing is None:
                continue
            chance, seed = pairing.chance(1 + len(here)), self._config.seed
            asked = {p: said for p, said in here.items() if meets(seed, visit.round, visit.peer, p, chance)}
            mine = LoraUpdate(self._update(self.delta(visit.peer)))
            theirs = self._admitted(visit.peer, asked)
            meetings += [Meeting(visit.peer, p, mine, update) for p, update in sorted(theirs.items())]
        return agreements(self._learners, meetings, flattery(self._config.attack, self.peers))

    def _admitted(self, peer: PeerId, heard: Mapping[PeerId, SharedUpdate]) -> dict[PeerId, LoraUpdate]:
        learner, codec = self._learners[peer], self._config.codec
        found = {other: learner.admit(said.blob, codec, said.base) for other, said in heard.items()}
        return {other: update for other, update in found.items() if not isinstance(update, Refusal)}

    def merge(
        self,
        visit: Visit,
        heard: Mapping[PeerId, SharedUpdate],
        products: Mapping[PeerId, float] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """End a peer's round with what it heard; the line of `metrics.jsonl` but for bytes."""
        learner, updates = self._learners[visit.peer], self._admitted(visit.peer, heard)
        done = learner.collaborate(updates, products=products, shares=self._population.shares)
        return {
            "round": visit.round,
            "time": visit.time,
            "peer": visit.peer,
            "loss_train": self._reports[visit.peer].loss_train,
            "loss_trust": done.figures.loss_trust,
            "guard_own": done.figures.guard_own,
            "guard_personal": done.figures.guard_personal,
            "guard_local": done.figures.guard_twin,
            "best_guard": done.best_guard,
            "accepted": done.accepted,
            "reason": done.reason,
            "heard": {peer: visit.hears[peer] for peer in updates},
            "row": dict(done.row.weights) if updates else None,
            "refused": dict(done.refused),
            "copies": [list(pair) for pair in done.copies],
        }

    def test(self, peer: PeerId) -> Tested:
        """Open the test split."""
        learner = self._learners[peer]
        asked = (*REPORTED, *(OF_THE_TWIN if self._config.twin else ()))
        found: dict[Which, Evaluation] = {}
        known: dict[int, Evaluation] = {}  # the best is often the last
        for which in asked:
            is_mixed = which == "served" and learner.served == "mixture"  # no adapter of its own
            key = 0 if is_mixed else id(learner.adapter(which))
            known[key] = found[which] = known.get(key) or learner.evaluate("test", which)
        losses: dict[str, float | None] = {
            which: found[which].loss if which in found else None for which in (*REPORTED, *OF_THE_TWIN)
        }
        alone = min((found[which] for which in OF_THE_TWIN if which in found), key=lambda f: f.loss, default=None)
        against = None if alone is None else difference(found["served"], alone)
        paired = (*PAIRED, "served") if self._config.serve == "mixture" else PAIRED
        documents = {str(which): by_document(found[which]) for which in paired if which in found}
        return Tested(found["personal"].tokens, losses, against, documents, self._probed(learner))

    def _probed(self, learner: Learner) -> dict[str, float]:
        if self._population.backdoor is None:
            return {}
        text = self._population.texts[learner.me].test
        context = self._config.training.context
        stack = self._stack_of[learner.me]
        vocabulary = int(stack.adapted.model.config.get_text_config().vocab_size)
        measures = [
            measure_of(split, context=context, vocabulary=vocabulary)
            for split in probes(text, self._population.backdoor)
        ]
        asked = PROBED
        adapters = [learner.adapter(which) for which in asked]
        whole, triggered = (
            evaluate_together(stack.adapted, adapters, measure, stack.device, stack=stack) for measure in measures
        )
        return {which: target_loss(a, b) for which, a, b in zip(asked, whole, triggered, strict=True)}

    def save(self, folder: Path) -> None:
        """Everything that the rest of the run depends on: of each learner the two files of `round.saved`, by number."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, (_, learner) in enumerate(sorted(self._learners.items())):
            learner.save(folder / f"{number}.safetensors")
            learner.save_best(folder / f"{number}.best.safetensors")
            if (key := self._keys.get(learner.me)) is not None:
                (folder / f"{number}.key").write_bytes(key.blob)
        best = {peer: learner.best_guard for peer, learner in self._learners.items()}
        since = {peer: key.publications for peer, key in self._keys.items()}
        (folder / "shard.json").write_text(json.dumps({"best_guard": best, "since_key": since}), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Go on where `save` was called. CheckpointError if it does not fit."""
        try:
            kept = json.loads((folder / "shard.json").read_text(encoding="utf-8"))
            best, since = kept["best_guard"], kept.get("since_key", {})
            for number, (peer, learner) in enumerate(sorted(self._learners.items())):
                learner.restore(folder / f"{number}.safetensors")
                learner.restore_best(folder / f"{number}.best.safetensors", float(best[peer]))
                if peer in since:
                    self._keys[peer] = KeyFrame((folder / f"{number}.key").read_bytes(), int(since[peer]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder} cannot be gone on from: {error}", "start anew with --fresh") from error


def by_document(found: Evaluation) -> tuple[DocumentLoss, ...]:
    """Losses of windows put together by the document that they are of, in the order of the split."""
    documents, place = np.unique(found.per_window_document, return_inverse=True)
    nats, tokens = np.zeros(len(documents)), np.zeros(len(documents), dtype=np.int64)
    np.add.at(nats, place, found.per_window * found.per_window_tokens)
    np.add.at(tokens, place, found.per_window_tokens)
    return tuple(zip(nats.tolist(), tokens.tolist(), strict=True))
