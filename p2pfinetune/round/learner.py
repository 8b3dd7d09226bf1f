"""One peer's learning: train, share, collaborate, keep the best. What the daemon's worker and the simulator both drive.

Words: *own* is the adapter after training and before this round's merge, *personal* what the round ended with and the
next one starts from, *local* a twin that trains on the same batches and never merges, *base* no adapter,
*served* what a person is given: the personal one, and if a twin has done better, the best that there is.
The learner counts no rounds and looks at no clock; its caller does.

    personal --train--> own --encode--> bytes for others
                         |
                         |   bytes of others --admit--> updates, or a refusal each
                         v
                    collaborate:  outliers out, a trust row (trust split), a second look (trust split)
                         |
                         v
                      judge (guard split)
                         |-- no worse than own ............................ the merge
                         |-- worse than own, but part of the way is not .... half or a quarter of the way to it
                         |-- worse, or not finite .......................... own
                         `-- that, too, far above the best ever reached .... the best ("returned")
                         |
                         v
                      personal; the trainer goes on from it, and the twin parts from it at the first merge that is kept

Why a peer judges and does not only trust: a trust row says who is near, and not whether their mean is better than what
I have. The guard keeps a peer near the best that it ever was, whoever its neighbours are; the best adapter is kept
beside the personal one, since a round may end a little worse than it began (credit, new text).

What binds the state between two calls: the trainer's weights are `own` after training and `personal` after a
collaboration; `best_guard` is the loss of the best adapter on the guard split of the text that is read now; before the
twin has parted it is the own training itself. All of it is saved by `round.saved`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import msgspec

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.profile import behind_profile, profile_ids
from p2pfinetune.data.splits import Split
from p2pfinetune.errors import OptionError
from p2pfinetune.export.stored import Exportable
from p2pfinetune.export.writing import Progress, untold, write_export
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, first_network_digest, network_digest
from p2pfinetune.model.base import Base
from p2pfinetune.model.memory import MemoryPlan
from p2pfinetune.model.soundness import check_loss
from p2pfinetune.model.targets import said_of
from p2pfinetune.model.traits import network_traits, other_sharings
from p2pfinetune.names import DEFAULT_ADAPTER, TWIN_ADAPTER, Digest, ExportFormat, PeerId, Refusal, Served, Which
from p2pfinetune.options import LearnerOptions
from p2pfinetune.round import update
from p2pfinetune.round.blend import Blend
from p2pfinetune.round.collaborate import Outcome, as_heard_by, collaborate, merged_by, rule_for, scheme_for
from p2pfinetune.round.context import SplitContext
from p2pfinetune.round.figures import RoundFigures
from p2pfinetune.round.judging import Judge, Look
from p2pfinetune.round.looks import GuardLooks
from p2pfinetune.round.newcomer import Pieces
from p2pfinetune.round.own_measures import OwnMeasures
from p2pfinetune.round.own_updates import OwnUpdates
from p2pfinetune.round.pairs import Middle
from p2pfinetune.round.progress import RoundProgress
from p2pfinetune.round.result import Collaboration, TrainReport, on_split, own_loss
from p2pfinetune.round.saved import HeldAdapter, LearnerState, load_best, load_state, save_best, save_state
from p2pfinetune.round.second_look import useful_row
from p2pfinetune.round.serving import Serving
from p2pfinetune.round.speaker import Speaker
from p2pfinetune.round.spring import Spring
from p2pfinetune.round.twin import Twin
from p2pfinetune.round.update import Hide, KeyFrame, LoraUpdate, Written
from p2pfinetune.scoring.evaluate import Evaluation, Measure, measure_of
from p2pfinetune.speech import ChatLine, Said, Sampling
from p2pfinetune.training.gates import Gates
from p2pfinetune.training.portion_trainer import end_round, trainer_for
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainer import StepReport, Trainer
from p2pfinetune.training.trainers import chosen_kind
from p2pfinetune.trust import NOTHING

GUARD_RUNS = 2  # of own and merged adapter: the part of a collaboration's progress that no scheme can avoid


class Learner:
    """Own training, and what comes of it when neighbours' updates are at hand."""

    def __init__(
        self,
        base: Base,
        corpus: Corpus,
        options: LearnerOptions,
        *,
        me: PeerId,
        group: str,
        reference: TokenSplit | None = None,
        adapted: AdaptedModel | None = None,
        stack: AdapterStack | None = None,
        start: Adapter | None = None,
    ) -> None:
        """`adapted` and `stack`: a live model to share with other learners of this base and spec, for simulations.

        `start`: begin with other weights than the seeded ones, as the paper's code does.
        """
        self.me, self.options = me, options
        context = min(options.training.context, base.max_context or options.training.context)
        self.training = msgspec.structs.replace(options.training, context=context, who=me)
        self._front = profile_ids(options.profile, base.tokenizer, context)
        self._corpus = corpus = behind_profile(corpus, self._front)
        self._base, self._reference = base, reference
        self._rule = rule_for(options.merge, options.merge_options, options.spec)
        self._mixed = partial(merged_by, me=me, rule=self._rule, spec=options.spec)
        self._scheme = scheme_for(options.trust, options.trust_options, self._rule, options.spec)
        self._adapted = adapted or attach(base, options.spec)
        self._stack = stack or AdapterStack(self._adapted)
        self._speaker = Speaker(base, options.spec, self._front)
        initial, self._group = self._adapted.initial, group
        self.network = network_digest(base, options.spec, self._adapted.targets, self._adapted.start, group)
        self.traits = network_traits(base, options.spec, self._adapted.targets)
        self.other_sharings = other_sharings(options.spec, self._adapted.targets)
        self.max_blob_bytes = update.largest_blobs(self._adapted.shared_schema, options.spec.sharing)
        self._max_norm = options.max_norm or update.default_max_norm(self._adapted.shared_schema)
        kind = chosen_kind(options)
        self._trainer = trainer_for(kind, base, self._adapted, lambda: self._corpus, self.training, self._stack, me)
        self._trainer.set_adapter(start or initial)
        self.pieces = Pieces(self._adapted, corpus.train, self.training, options)
        self._twin = Twin(self._trainer, is_wanted=options.twin)
        self._own = self._personal = self._best = start or initial
        self._serving = Serving(self._stack, options)
        self._last_row: Mapping[PeerId, float] = {}
        self._kept = NOTHING  # what the trust scheme remembers
        self._spring = Spring(self._trainer)
        self.middle = Middle(self._scheme, self._stack, self._trainer, lambda: self._on.measure("trust"))
        self.forgotten = ""
        """Of what was restored, what another scheme remembered and this one cannot know; a sentence for people."""
        self._owed = math.inf
        self._updates = OwnUpdates(self._adapted)
        self._on = OwnMeasures(corpus, self._stack, options, self.measure)
        self.best_guard = self._on.base.loss
        check_loss(base.name, self.best_guard)

    @property
    def steps(self) -> int:
        """Optimizer steps of own training since it began."""
        return self._trainer.steps

    @property
    def said(self) -> str:
        """What the user did not choose and should know of the layers without an adapter; empty if there is none."""
        return "" if self.options.spec.targets else said_of(self._base.model, self._adapted.targets)

    @property
    def adapter_parameters(self) -> int:
        """Trainable numbers."""
        return sum(math.prod(shape) for shape in self._trainer.adapted.trained_schema.values())

    @property
    def has_twin(self) -> bool:
        """Whether there is a `local` model: of a twin that trains, or will once the two part."""
        return self._twin.is_wanted

    def own(self) -> Adapter:
        """After the last training."""
        return self._own

    def personal(self) -> Adapter:
        """What the last round ended with."""
        return self._personal

    def train(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> TrainReport:
        """Steps of own training, from what the last round ended with; the twin takes the same in the same passes."""
        if self._twin.trainer is None:
            return self.trained(self._trainer.run(steps, on_step))

        def note(place: int, report: StepReport) -> None:
            if on_step is not None and place == 0:
                on_step(report)

        return self.trained(train_together(list(self.trainers.values()), steps, note, stack=self._stack)[0])

    @property
    def trainers(self) -> Mapping[str, Trainer]:
        """By the name of what they train: `default`, then the twin's once it has parted.

        For who trains several together and then calls `trained`.
        """
        own = {DEFAULT_ADAPTER: self._trainer}
        return own if self._twin.trainer is None else {**own, TWIN_ADAPTER: self._twin.trainer}

    def trained(self, reports: Sequence[StepReport]) -> TrainReport:
        """What the steps of the own trainer amount to; its adapter is the own one from now on."""
        self._own = self._trainer.adapter
        return TrainReport.of(reports)

    def encode(self, codec: str, hide: Hide | None = None) -> bytes:
        """The adapter that the next collaboration calls own, as peers fetch it: all of it, as a key frame."""
        return self._updates.key_frame(self._trainer, codec, hide)

    def write(self, codec: str, key: KeyFrame | None, hide: Hide | None = None) -> Written:
        """The same, or how it differs from a key frame of this codec, if the codec can and that is worth it."""
        return self._updates.write(self._trainer, codec, key, hide)

    def admit(self, blob: bytes, codec: str, base: bytes | None = None) -> LoraUpdate | Refusal:
        """A peer's blob as an update, after every check. `base`: the key frame to which it is a difference."""
        schema, sharing = self._adapted.shared_schema, self.options.spec.sharing
        return update.inspect(blob, codec, schema, max_norm=self._max_norm, base=base, sharing=sharing)

    def collaborate(
        self,
        updates: Mapping[PeerId, LoraUpdate],
        *,
        products: Mapping[PeerId, float] = MappingProxyType({}),  # agreements of `middle` since the last time
        shares: Mapping[PeerId, tuple[float, ...]] = MappingProxyType({}),
        allowed: frozenset[PeerId] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Collaboration:
        """Score, merge, guard; go on from the outcome. `on_progress` gets adapters measured and to be measured."""
        progress = RoundProgress(on_progress, 1 + len(updates) + GUARD_RUNS)
        self._own = own = self._trainer.adapter  # while training rests, what the last round ended with
        start, as_heard = as_heard_by(self._rule, self._adapted, own)
        neighbours = {peer: u.adapter(start, as_heard) for peer, u in updates.items() if peer != self.me}
        del updates  # unless the caller holds on to them, they are gone before the model is run
        context = self._context(shares, progress)
        context.products = products
        heard = collaborate(self.me, as_heard, neighbours, self._scheme, context, allowed)
        if neighbours:
            self._last_row, self._kept = heard.row.weights, heard.kept
        on_guard = self._on.looks(self.steps)
        # a merge that is taken on credit measures worse: what training alone came to is not lost for it
        is_best = self._wants_own_whole and self._note_own(own, on_guard)
        judge = self._judge(own, neighbours, on_guard)
        row, outcome = judge.judged(heard.row, self._second_look(as_heard, neighbours, context))
        progress.advance()
        self._owed = judge.owed
        outcome = self._spring.drawn(row, outcome, judge, self._scheme.spring(self._kept))
        is_best = (on_guard.is_whole(own) and self._note_own(own, on_guard)) or is_best
        self._go_on_from(outcome)
        is_best = self._note_best(outcome.personal, outcome.loss) or is_best
        twin = self._note_twin(own, on_guard)
        self._serving.learn(self.me, outcome.personal, own, neighbours, row, self._on.measure)
        (on_trust,) = context.glances([outcome.personal])
        judged = on_guard.whole(outcome.personal)
        self._on.note_end(outcome.personal, judged)
        both = on_guard.both(outcome.personal, own)
        figures = RoundFigures(
            loss_trust=on_trust.loss, guard_base=self._on.base.loss, guard_own=own_loss(judged, both),
            guard_personal=outcome.loss, guard_twin=twin.loss if twin is not None else None, readings=self._readings(),
            on_trust=on_split(on_trust, self._on.base_at_a_glance), guard_mixture=self._serving.guard_mixture,
            on_guard=on_split(judged, self._on.base, twin, both),
        )  # fmt: skip
        progress.finish()
        return Collaboration(
            row=row, accepted=not outcome.reason, reason=outcome.reason, figures=figures,
            best_guard=self.best_guard, new_best=is_best, served=self._serve(outcome.loss),
            refused={peer: refusal.reason for peer, refusal in heard.refused.items()}, copies=heard.copies,
        )  # fmt: skip

    def assemble(self, updates: Mapping[PeerId, LoraUpdate], gates: Mapping[PeerId, Gates]) -> Collaboration:
        """A first adapter of the pieces of those who gave both; gone on from if it measures better. See `newcomer`."""
        self._own = own = self._trainer.adapter
        first = self.pieces.first(
            self.me, own, updates, gates, context=self._context({}, RoundProgress(None, 0)),
            measure=partial(self._on.evaluate, "guard"), on_base=self._on.base,
        )  # fmt: skip
        self._go_on_from(first.outcome)
        self._note_best(first.outcome.personal, first.outcome.loss)
        return first.told(self.best_guard, self._serve(first.outcome.loss))

    def evaluate(self, split: Split, which: Which) -> Evaluation:
        """Losses of one of the models on one split; test and train whole, trust and guard within their limits."""
        if (mixture := self._mixture(which)) is not None:
            return self._serving.evaluation(mixture, self._on.measure(split))
        return self._on.evaluate(split, self.adapter(which))

    def measure(self, split: TokenSplit, max_tokens: int = 0) -> Measure:
        """Windows of any text, as the own splits are measured; of a longer one a fixed choice of `max_tokens`."""
        return measure_of(
            replace(split, front=self._front), context=self.training.context, max_tokens=max_tokens,
            vocabulary=int(self._adapted.model.config.get_text_config().vocab_size),
        )  # fmt: skip

    def evaluate_on(self, measure: Measure, models: Sequence[Which]) -> dict[Which, Evaluation]:
        """Losses of these models. Equal adapters are measured once. OptionError for a twin's if there is none."""
        return self._serving.evaluations({w: self._mixture(w) or self.adapter(w) for w in models}, measure)

    def split(self, name: Split) -> TokenSplit:
        """One of the own text's."""
        return self._corpus.split(name)

    def generate(
        self, prompt: str, which: Which, *, max_tokens: int, temperature: float, seed: int, top_p: float = 1.0
    ) -> str:
        """How one of the models goes on after the prompt."""
        sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, top_p=top_p)
        return self._speaker.text(self._mixture(which) or self.adapter(which), prompt, sampling)

    def respond(
        self, which: Which, prompt: str | Sequence[ChatLine], sampling: Sampling, *, cuts: bool = True
    ) -> Iterator[Said | None]:
        """What one of the models says, as it is now, one pass a value; see `Speaker`. Leaves training alone."""
        if which == "served" and self._serving.which is None:
            which = "personal"  # to measure which it is would take the live model
        return self._speaker.respond(self._mixture(which) or self.adapter(which), prompt, sampling, cuts=cuts)

    def export(
        self,
        folder: Path,
        which: Which = "served",
        form: ExportFormat = "peft",
        *,
        modelfile: bool = False,
        expert: int | None = None,
        progress: Progress = untold,
    ) -> list[Path]:
        """One of the models in a form that other programs load; a PEFT folder is its adapter and the tokenizer."""
        trained = Exportable(self._base, self._adapted.of_network_rank(self.adapter(which)), self._adapted.spec)
        return write_export(trained, folder, form, modelfile=modelfile, expert=expert, progress=progress)

    def reread(self, corpus: Corpus) -> None:
        """Go on with other text. The best adapter stays the best, with its loss on the new guard split."""
        self._corpus = corpus = behind_profile(corpus, self._front)
        self._on = OwnMeasures(corpus, self._stack, self.options, self.measure)
        self._serving.forget(self._twin)
        for trainer in self.trainers.values():
            trainer.reread(corpus.train)
        self.pieces.reread(corpus.train)
        self.best_guard = self._on.evaluate("guard", self._best).loss
        self._twin.remeasure(partial(self._on.evaluate, "guard"))

    def save(self, path: Path) -> None:
        """Everything but the best adapter, which `save_best` writes, in one file."""
        live = self._adapted
        memory = LearnerState(
            adapters={name: HeldAdapter(self.options.spec, held.state()) for name, held in self.trainers.items()},
            own=self._own, personal=self._personal, last_row=self._last_row, kept=self._kept,
            kept_by=self.options.trust, owed=self._owed, precision=live.precision,
            plan=MemoryPlan(
                positions=live.positions, checkpointing=live.checkpointing, quantize=self._base.quantize
            ),
            served=self._serving.adapter, blend=self._serving.blend, is_mixed=self._serving.is_mixed,
            has_twin=self._twin.is_wanted, is_alone=self._twin.is_alone, twin_best=self._twin.best,
            best_local=self._twin.best_loss, gates=self.pieces.state, pull=self._spring.pull,
        )  # fmt: skip
        save_state(path, self.network, self._measured_on, memory)

    def restore(self, path: Path) -> None:
        """Go on to the bit where `save` was called. CheckpointError if the file is of another network or twin."""
        with_twin, formerly = self._twin.is_wanted, self._formerly()
        spec = self.options.spec
        memory, fingerprint = load_state(path, self.network, spec, with_twin=with_twin, formerly=formerly)
        self._trainer.load_state(memory.adapters[DEFAULT_ADAPTER].state)
        self._twin = Twin(self._trainer, is_wanted=self._twin.is_wanted)
        self._twin.is_alone = memory.is_alone
        self.pieces.resume(memory.gates)
        if TWIN_ADAPTER in memory.adapters:
            self._twin.resume(self._corpus.train, memory.adapters[TWIN_ADAPTER].state)
            self._twin.best, self._twin.best_loss = memory.twin_best, memory.best_local
        self._own, self._personal = memory.own, memory.personal
        self._serving.restore(self._twin, memory.served, memory.blend, is_mixed=memory.is_mixed)
        self._last_row, self._owed = memory.last_row, memory.owed
        self._kept, self.forgotten = memory.kept_for(self.options.trust)
        self._spring.set(memory.pull if self._scheme.spring(self._kept) else None)
        self._twin.pull(self._personal, self.options.twin_pull)
        if fingerprint != self._measured_on:
            self._serving.forget(self._twin)
            self._twin.remeasure(partial(self._on.evaluate, "guard"))

    def save_best(self, path: Path) -> None:
        """The adapter with the best guard loss so far."""
        save_best(path, self.network, self._measured_on, self._best)

    def restore_best(self, path: Path, loss: float) -> None:
        """The other half of `restore`; `loss` is measured again where text, context or limit have changed since."""
        self._best, fingerprint = load_best(path, self.network, self._formerly())
        self.best_guard = loss if fingerprint == self._measured_on else self._on.evaluate("guard", self._best).loss

    def adapter(self, which: Which) -> Adapter:
        """One of the models' adapters. OptionError for a twin's if there is none."""
        if which in ("local", "local_best") and not self._twin.is_wanted:
            raise OptionError(f"there is no {which} model here", "start with --twin to train one")
        known: dict[Which, Callable[[], Adapter]] = {
            "base": lambda: self._adapted.initial,  # B = 0: it adds nothing
            "own": lambda: self._own,
            "personal": lambda: self._personal,
            "local": lambda: self._twin.adapter,
            "local_best": lambda: self._best if self._twin.trainer is None else self._twin.best,
            "best": lambda: self._best,
            "served": lambda: self.adapter("local_best" if self.exported == "local" else self.exported),
        }
        return known[which]()

    @property
    def served(self) -> Served:
        """What `generate` gives; measured anew after other text was read."""
        return self._serving.which or self._serve(self._on.evaluate("guard", self._personal).loss)

    @property
    def exported(self) -> Which:
        """Whose adapter stands for what is served: of a mixture, the one that would be served without it."""
        return (self.served and self._serving.adapter) or "personal"

    def _mixture(self, which: Which) -> Blend | None:
        return self._serving.mixture if which == "served" and self.served == "mixture" else None

    def _serve(self, personal: float) -> Served:
        return self._serving.choose(personal, self.best_guard, self._twin)

    @property
    def _measured_on(self) -> str:
        """What two losses on the guard split must have in common to be compared."""
        return f"{self._corpus.fingerprint} {self.training.context} {self.options.guard_tokens}"

    def _formerly(self) -> Digest:
        """What this network was called by the first version."""
        live, spec = self._adapted, self.options.spec
        return first_network_digest(self._base, spec, live.targets, live.start, self._group)

    def _readings(self) -> float:
        options, text = self.training, self._corpus.train.tokens
        return self.steps * options.batch_size * options.accumulation * options.context / len(text)

    def _context(self, shares: Mapping[PeerId, tuple[float, ...]], progress: RoundProgress) -> SplitContext:
        return SplitContext(
            self._adapted, self._base.device, self._on.measure("trust"), self._reference or self._corpus.trust, shares,
            progress.advance, self._on.glance, self._last_row, self._kept, stack=self._stack,
        )  # fmt: skip

    def _judge(self, own: Adapter, neighbours: Mapping[PeerId, Adapter], on_guard: GuardLooks) -> Judge:
        options = self.options
        return Judge(
            me=self.me, own=own, neighbours=neighbours, mixed=self._mixed, resets_moments=self._rule.resets_moments,
            guard=on_guard, began=lambda: self._on.began(self._personal), best=self._best, best_loss=self.best_guard,
            tolerance=options.tolerance, credit=options.credit, max_share=options.max_share, owed=self._owed,
            guarded=options.guarded,
        )  # fmt: skip

    def _second_look(self, own: Adapter, neighbours: Mapping[PeerId, Adapter], context: SplitContext) -> Look | None:
        if not (self.options.guarded and self.options.second_look):
            return None
        return lambda row: useful_row(row, self.me, own, neighbours, self._scheme, self._mixed, context)

    def _go_on_from(self, outcome: Outcome) -> None:
        if outcome.personal is not self._own or self.options.twin_pull or self._spring.pull is not None:
            self._twin.part(self._corpus.train, self._best, self.best_guard)
        self._personal = outcome.personal
        self._trainer.set_adapter(outcome.personal)
        self._twin.pull(self._personal, self.options.twin_pull)
        end_round(self.trainers.values())
        if not outcome.moments_fit:
            self._trainer.forget()

    def _note_best(self, adapter: Adapter, loss: float) -> bool:
        if not loss < self.best_guard:
            return False
        self._best, self.best_guard = adapter, loss
        return True

    def _note_own(self, own: Adapter, on_guard: GuardLooks) -> bool:
        loss = on_guard.whole(own).loss
        return self.options.guarded and self._note_best(own, loss)

    @property
    def _wants_own_whole(self) -> bool:
        """Whether the loss of the own adapter is needed, whatever becomes of the merge."""
        return not self.options.guarded or bool(self.options.credit) or (self._twin.is_wanted and self._twin.is_alone)

    def _note_twin(self, own: Adapter, on_guard: GuardLooks) -> Evaluation | None:
        if not self._twin.is_wanted:
            return None
        is_own = self._twin.adapter is self._own
        found = on_guard.whole(own) if is_own else self._on.evaluate("guard", self._twin.adapter)
        self._twin.note(found.loss)
        return found
