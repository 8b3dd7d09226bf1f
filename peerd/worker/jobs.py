"""What each job does: the one place where the daemon's words meet the library's. Runs in the worker process only.

torch is imported with the first job, not with this module. Nothing here decides what comes next.

Every job is a function of the session and the files that it names; what it leaves for the daemon is a file in the
scratch folder under a name that was never used before, and the answer says which. The daemon moves the file into its
shelf, so a file is whole before it is named and never written again. A job that is killed half-way leaves a file that
nobody names; the folder is cleared when the next worker is opened.

Training is one call of the learner for each step, so that quick jobs may come in between. Each step depends on its
number and the state alone; so a round that was interrupted, or done again by another worker, gives the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from p2pfinetune.names import PeerId, Refusal, Which
from p2pfinetune.nano import about_model
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions, sections
from p2pfinetune.speech import Ended
from peerd.config import Config
from peerd.errors import WorkerError
from peerd.machine.faults import around
from peerd.worker.evaluating import evaluated, models_of
from peerd.worker.exporting import exported
from peerd.worker.fits import must_hold_libraries
from peerd.worker.messages import (
    Admitted,
    AdmitUpdate,
    AnyAnswer,
    AnyJob,
    AssembleFrom,
    Close,
    Closed,
    CollaborateWith,
    CompareMiddle,
    Encode,
    Encoded,
    EvaluateTest,
    EvaluateText,
    Export,
    Exported,
    Generate,
    Generated,
    JobProgress,
    Merged,
    MiddleRefused,
    MiddleWeighed,
    NotAdmitted,
    Open,
    Opened,
    ReadAgain,
    Reread,
    Respond,
    Responded,
    Sketched,
    SketchMiddle,
    Spoken,
    Stepped,
    TestEvaluated,
    TextEvaluated,
    TrainSteps,
    UpdateFile,
    Withheld,
)  # fmt: skip
from peerd.worker.pieces import answer, assembled
from peerd.worker.planned import Planned
from peerd.worker.precision import loaded, measured
from peerd.worker.restoring import restore
from peerd.worker.texts import dealer_of, read_reference, read_text, text_now, told
from peerd.worker.twin import twin

if TYPE_CHECKING:
    from p2pfinetune.data.dealer import Dealer
    from p2pfinetune.data.reading_memory import ReadingMemory
    from p2pfinetune.model.base import Base
    from p2pfinetune.round.learner import Learner
    from p2pfinetune.round.result import Collaboration
    from p2pfinetune.round.update import LoraUpdate, Written

BETWEEN_STEPS: Final = (AdmitUpdate, SketchMiddle, CompareMiddle, Export, Generate, EvaluateText)
"""Jobs that are done between two optimizer steps, so that nobody waits for a whole round of training."""
WHILE_MEASURING: Final = (AdmitUpdate,)
"""Jobs that leave the model alone, while one adapter after the other is measured in it."""

WHILE_EVALUATING: Final = (AdmitUpdate, Export, Generate)
"""Jobs that are done between two files of a text that is read to be measured, and between two pieces of it."""

DISK_PAUSE_SECONDS: Final = 1.0  # before the next attempt to write, doubled with each
LONGEST_DISK_PAUSE_SECONDS: Final = 30.0
DISK_LOOK_SECONDS: Final = 0.1  # between two looks for quick jobs and the end, meanwhile

Between = Callable[[tuple[type[AnyJob], ...]], None]
"""Does what has arrived of these kinds, then returns; raises if the worker shall leave."""


@dataclass(slots=True, kw_only=True)
class Session:
    """What stays between jobs, once opened. Only `learner`, `fingerprint`, `memory` and `files` change after that."""

    config: Config
    scratch: Path
    cache: Path
    me: PeerId
    base: Base
    learner: Learner
    fingerprint: str
    dealer: Dealer
    memory: ReadingMemory
    """Of the text as it was read the last time."""
    files: int = 0
    """Written to scratch so far."""

    def new_file(self, kind: str) -> Path:
        """A path that nothing has used; the daemon moves the file away."""
        self.files += 1
        return self.scratch / f"{os.getpid()}-{self.files}.{kind}"

    def save(self, path: Path) -> None:
        with around("worker.checkpoint"):
            self.learner.save(path)

    def save_best(self, path: Path) -> None:
        with around("worker.best"):
            self.learner.save_best(path)


class Jobs:
    """Performs jobs. `between` is called when a long job may be interrupted by quick ones."""

    def __init__(self, between: Between, progress: Callable[[JobProgress], None]) -> None:
        self._between, self._progress = between, progress
        self._now: Session | None = None
        self._by_kind: dict[type[AnyJob], Callable[[Any], AnyAnswer]] = {
            Open: self._open,
            TrainSteps: self._train,
            Encode: self._encode,
            AdmitUpdate: self._admit,
            SketchMiddle: self._at_a_middle,
            CompareMiddle: self._at_a_middle,
            CollaborateWith: self._collaborate,
            AssembleFrom: self._assemble,
            Generate: self._generate,
            Export: self._export,
            EvaluateTest: self._evaluate_test,
            EvaluateText: self._evaluate_text,
            Reread: self._reread,
            Close: self._close,
        }
        """Each kind of `AnyJob` is here; a test says so."""

    def perform(self, job: AnyJob) -> AnyAnswer:
        """The answer to one job; errors are raised and become answers at the process boundary."""
        return self._by_kind[type(job)](job)

    def _close(self, job: Close) -> Closed:
        return Closed(id=job.id)

    def _held(self) -> Session:
        if self._now is None:
            raise WorkerError("the worker was not opened")
        return self._now

    def _open(self, job: Open) -> Opened:
        config = job.config
        must_hold_libraries(config)
        if config.threads:
            import torch

            torch.set_num_threads(config.threads)
        from p2pfinetune.data.reading_memory import ReadingMemory
        from p2pfinetune.model.base import public_name
        from p2pfinetune.model.catalogue import licence_in
        from p2pfinetune.round.learner import Learner

        cache, options = Path(job.cache), learner_options(config)
        base, chosen = loaded(job, partial(self._plan, job.id))
        memory, dealer = ReadingMemory(), dealer_of(job)
        corpus = read_text(config, base, cache, dealer, memory, partial(self._reading, job.id, ()))
        if chosen is None:
            base, chosen = measured(base, corpus, options)
        company = twin(config, job.checkpoint, base, corpus, options)
        options = msgspec.structs.replace(options, twin=company.trains)
        learner = Learner(base, corpus, options, me=job.me, group=config.group, reference=read_reference(config, base))
        base_guard = learner.best_guard  # before anything was learnt, the base is the best there is
        restored = restore(learner, job)
        self._now = Session(
            config=config,
            scratch=Path(job.scratch),
            cache=cache,
            me=job.me,
            base=base,
            learner=learner,
            fingerprint=corpus.fingerprint,
            dealer=dealer,
            memory=memory,
        )
        return Opened(
            id=job.id,
            network=learner.network,
            traits=dict(learner.traits),
            other_sharings=learner.other_sharings,
            device=str(base.device),
            max_blob_bytes=dict(learner.max_blob_bytes),
            restored=restored,
            base_guard=base_guard,
            report=told(corpus),
            text=text_now(corpus.report),
            fingerprint=corpus.fingerprint,
            parameters=base.parameters,
            adapter_parameters=learner.adapter_parameters,
            best_guard=learner.best_guard if restored else None,
            steps=learner.steps,
            pairing=learner.middle.pairing.probability if learner.middle.pairing is not None else None,
            precision=chosen.precision,
            precision_why=chosen.why,
            twin="on" if company.trains else "off",
            twin_why=company.why,
            known_as=public_name(base),
            licence=licence_in(base.folder),
            gates=self._gates(job),
            gate_bytes=learner.pieces.max_bytes,
            notices=[said for said in (about_model(config.model), learner.said, dealer.notice) if said],
        )

    def _plan(self, job_id: int, planned: Planned) -> None:
        self._progress(JobProgress(id=job_id, activity="starting", done=0, total=0, planned=planned))

    def _reading(self, job_id: int, quick: tuple[type[AnyJob], ...], what: str, done: int, total: int) -> None:
        """Tells how far a reading is; nobody waits for a large one."""
        self._progress(JobProgress(id=job_id, activity=what, done=done, total=total))
        self._between(quick)

    def _train(self, job: TrainSteps) -> Stepped:
        """Step by step, since a job in between may use the model; every step depends on its number and nothing else."""
        held = self._held()
        losses: list[float] = []
        tokens = 0
        self._progress(JobProgress(id=job.id, activity="training", done=0, total=job.steps))
        while len(losses) < job.steps:
            with around("worker.step"):
                report = held.learner.train(1)
            losses.append(report.loss_train)
            tokens += report.tokens
            done = JobProgress(
                id=job.id, activity="training", done=len(losses), total=job.steps, loss=losses[-1], tokens=tokens
            )
            self._progress(done)
            self._between(BETWEEN_STEPS)
        for _ in held.learner.pieces.steps(held.learner.own()):
            self._between(BETWEEN_STEPS)
        checkpoint = self._written(job, "checkpoint", held.save)
        return Stepped(
            id=job.id,
            checkpoint=str(checkpoint),
            steps=len(losses),
            tokens=tokens,
            loss_train=math.fsum(losses) / max(1, len(losses)),
        )

    def _encode(self, job: Encode) -> Encoded | Withheld:
        from p2pfinetune.round.update import KeyFrame

        held, private = self._held(), job.private
        key = None if job.key is None else KeyFrame(Path(job.key).read_bytes(), job.since_key)
        if private is None:
            return self._encoded(job, held.learner.write(job.codec, key), epsilon=None)
        from p2pfinetune.round.privacy import epsilon, privatised

        after = epsilon([*private.spent, (private.noise, 1)], private.delta)
        if private.budget and not after <= private.budget:
            return Withheld(id=job.id, epsilon=after)
        said = held.learner.write(job.codec, key, lambda update: privatised(update, private.clip, private.noise))
        return self._encoded(job, said, after)

    def _encoded(self, job: Encode, said: Written, epsilon: float | None) -> Encoded:
        def write(path: Path) -> None:
            with around("worker.update"):
                path.write_bytes(said.blob)

        return Encoded(
            id=job.id,
            path=str(self._written(job, "update", write)),
            size=len(said.blob),
            is_difference=said.is_difference,
            epsilon=epsilon,
            gates=self._gates(job),
        )

    def _gates(self, job: AnyJob) -> str:
        """A file of those of the own adapter; empty if there are none."""
        blob = self._held().learner.pieces.encode()
        return "" if blob is None else str(self._written(job, "gates", lambda path: path.write_bytes(blob)))

    def _admit(self, job: AdmitUpdate) -> Admitted | NotAdmitted:
        found = self._read(job)
        if isinstance(found, Refusal):
            return NotAdmitted(id=job.id, reason=found.reason, detail=found.detail)
        return Admitted(id=job.id)

    def _read(self, file: AdmitUpdate | UpdateFile) -> LoraUpdate | Refusal:
        base = Path(file.base).read_bytes() if file.base is not None else None
        return self._held().learner.admit(Path(file.path).read_bytes(), file.codec, base)

    def _at_a_middle(self, job: SketchMiddle | CompareMiddle) -> Sketched | MiddleWeighed | MiddleRefused:
        from peerd.worker.middles import performed

        return performed(job, self._held().learner.middle, self._read(job.mine), self._read(job.theirs))

    def _collaborate(self, job: CollaborateWith) -> Merged:
        held = self._held()

        def measured(done: int, total: int) -> None:
            self._progress(JobProgress(id=job.id, activity="collaborating", done=done, total=total))
            self._between(WHILE_MEASURING)

        with around("worker.collaborate"):
            merged = held.learner.collaborate(
                self._updates(held, job), products=job.products, on_progress=measured,
                shares={PeerId(peer): share for peer, share in held.config.shares.items()},
            )  # fmt: skip
        return self._merged(job, merged)

    def _merged(self, job: CollaborateWith | AssembleFrom, merged: Collaboration) -> Merged:
        held = self._held()
        checkpoint = self._written(job, "checkpoint", held.save)
        best = self._written(job, "best", held.save_best) if merged.new_best else None
        return answer(job.id, merged, checkpoint, best)

    def _assemble(self, job: AssembleFrom) -> Merged:
        held, begun = self._held(), JobProgress(id=job.id, activity="collaborating", done=0, total=0)
        self._progress(begun)
        with around("worker.collaborate"):
            return self._merged(job, assembled(held.learner, self._updates(held, job), job.gates))

    def _written(self, job: AnyJob, kind: str, write: Callable[[Path], object]) -> Path:
        """A file in scratch. A disk that refuses is waited out: what was learnt stands in memory alone until then."""
        from safetensors import SafetensorError

        held, pause = self._held(), DISK_PAUSE_SECONDS
        while True:
            path = held.new_file(kind)
            try:
                held.scratch.mkdir(mode=0o700, exist_ok=True)  # somebody may have tidied it away meanwhile
                write(path)
            except (OSError, SafetensorError) as error:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
                trouble = f"The disk refuses the worker: {error}; free some space in {held.scratch}"
                self._progress(JobProgress(id=job.id, activity="waiting", done=0, total=0, trouble=trouble))
                until = time.monotonic() + pause
                pause = min(2 * pause, LONGEST_DISK_PAUSE_SECONDS)
                while time.monotonic() < until:
                    self._between(WHILE_MEASURING)
                    time.sleep(DISK_LOOK_SECONDS)
            else:
                return path

    def _updates(self, held: Session, job: CollaborateWith | AssembleFrom) -> dict[PeerId, LoraUpdate]:
        """The admitted updates, inspected once more: what is on disk is not what was in memory."""
        updates: dict[PeerId, LoraUpdate] = {}
        for file in job.updates:
            found = self._read(file)
            if isinstance(found, Refusal):
                print(f"update of {file.peer} left out: {found.reason} {found.detail}", file=sys.stderr)  # noqa: T201
            else:
                updates[file.peer] = found
        return updates

    def _generate(self, job: Generate) -> Generated:
        learner = self._held().learner

        def text(which: Which) -> str:
            return learner.generate(
                job.prompt, which, max_tokens=job.max_tokens, temperature=job.temperature, seed=job.seed
            )

        base, own, personal = text("base"), text("own"), text("personal")
        served = personal if learner.served == "personal" else text("served")
        return Generated(id=job.id, base=base, own=own, personal=personal, served=served, served_by=learner.served)

    def respond(self, job: Respond) -> Iterator[Spoken | Responded | None]:
        """Of one model, as it is when its first turn comes."""
        prompt = job.chat if job.prompt is None else job.prompt
        for said in self._held().learner.respond(job.which, prompt, job.sampling, cuts=job.cuts):
            if isinstance(said, Ended):
                yield Responded(id=job.id, ended=said)
            else:
                yield None if said is None else Spoken(id=job.id, said=said)

    def _export(self, job: Export) -> Exported:
        return exported(job, self._held().learner, functools.partial(self._told, job.id))

    def _told(self, job: int, done: int, total: int) -> None:
        """A large model takes a while: who watches for a sign of life sees one."""
        self._progress(JobProgress(id=job, activity="encoding", done=done, total=total))

    def _evaluate_test(self, job: EvaluateTest) -> TestEvaluated:
        held = self._held()
        found = {which: held.learner.evaluate("test", which) for which in models_of(held.learner)}
        return TestEvaluated(
            id=job.id,
            base=found["base"].loss,
            own=found["own"].loss,
            personal=found["personal"].loss,
            twin=min(found["local"].loss, found["local_best"].loss) if "local" in found else None,
            served=found["served"].loss,
            documents=found["base"].documents,
            tokens=found["base"].tokens,
        )

    def _evaluate_text(self, job: EvaluateText) -> TextEvaluated:
        held, tell = self._held(), partial(self._reading, job.id, WHILE_EVALUATING)
        return evaluated(job, held.learner, held.base, held.dealer, held.config, held.cache, tell)

    def _reread(self, job: Reread) -> ReadAgain:
        held = self._held()
        corpus = read_text(
            held.config,
            held.base,
            held.cache,
            held.dealer,
            held.memory,
            partial(self._reading, job.id, BETWEEN_STEPS),
        )
        if corpus.fingerprint == held.fingerprint:
            return ReadAgain(id=job.id, changed=False, fingerprint=held.fingerprint, text=text_now(corpus.report))
        held.learner.reread(corpus)
        held.fingerprint = corpus.fingerprint
        return ReadAgain(
            id=job.id, changed=True, fingerprint=held.fingerprint, report=told(corpus), text=text_now(corpus.report)
        )


def learner_options(config: Config) -> LearnerOptions:
    """What the library needs of the user's choices; whether a twin trains is settled later."""
    spec, training = sections.of(AdapterSpec, config), sections.of(TrainingOptions, config)
    return sections.of(LearnerOptions, config, spec=spec, training=training, twin=False)
