"""The daemon's handle on its worker: one process at a time, started again with growing pauses when it dies.

A death is reported and survived; only a first start that the user has to mend (too little text, no such model) is an
error that ends the daemon. Nothing here knows what a job is for. This is one-for-one supervision as Erlang's, with a
back-off in place of a limit on restarts: there is nobody above to give up to, and a disk or a driver may come back.

    pause ---> starting --- Open ---> opening --- Opened ---> ready <--- job, answer ---> working
      ^           |                     |                       |                            |
      |           | no process          | refuses, dies, hangs  | dies, is killed            | no sign of life for
      |           |                     |                       |                            | its deadline: killed
      +-----------+---------------------+-----------------------+----------------------------+
        on_died(reason), each time; everybody who waits for an answer gets a WorkerError

    opening, refused, and no worker has ever opened: `run` raises what the user has to mend
    stop(): asked to leave, killed after the grace, and `run` returns

The pause doubles with every death and falls back only when a job of a round was done (`Stepped`, `Merged`): a worker
that opens well and dies in its first step is no less broken than one that never opens.

A hang is told from slowness by signs of life, which are frames from the process. They are counted in looks and not by
the clock, so that a laptop that slept for a night finds its worker alive.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec

from p2pfinetune import errors as learning_errors
from peerd.errors import PeerdError, TooLong, UsageError, WorkerError
from peerd.machine import faults
from peerd.pacing import Backoff
from peerd.status import WorkerNow
from peerd.worker.messages import (
    AdmitUpdate,
    AnyAnswer,
    AnyJob,
    AssembleFrom,
    Close,
    CollaborateWith,
    CompareMiddle,
    Encode,
    Encoded,
    EvaluateTest,
    EvaluateText,
    Export,
    Generate,
    JobFailed,
    JobProgress,
    Merged,
    Open,
    Opened,
    Respond,
    SketchMiddle,
    Stepped,
    TrainSteps,
)
from peerd.worker.process import Life, OnProgress, OnSpoken
from peerd.worker.shortage import Shortage

STATES: Final[Mapping[type[AnyJob | Respond], str]] = {
    Open: "starting",
    TrainSteps: "training",
    Encode: "encoding",
    AdmitUpdate: "inspecting",
    SketchMiddle: "evaluating",
    CompareMiddle: "evaluating",
    CollaborateWith: "collaborating",
    AssembleFrom: "collaborating",
    Generate: "generating",
    Respond: "generating",
    Export: "encoding",
    EvaluateTest: "evaluating",
    EvaluateText: "evaluating",
}
USER_ERRORS: Final = frozenset(
    name
    for name, found in vars(learning_errors).items()
    if isinstance(found, type) and issubclass(found, learning_errors.LearningError)
)

_log = logging.getLogger("peerd.worker")


class Deadlines(msgspec.Struct, frozen=True):
    """Seconds without a sign of life, an answer or a note of progress, after which a worker with a job counts as hung.

    Ten times what a slow device needs: training notes every step, measuring every adapter.
    """

    open: float = 3600.0  # a big model may have to be fetched first, without a note; a fetch goes on where it was
    other: float = 900.0
    look: float = 5.0  # between two looks

    def of(self, job: AnyJob | Respond) -> float:
        return self.open if isinstance(job, Open) else self.other


class Silence(msgspec.Struct, frozen=True):
    """How long a worker with a job has given no sign of life.

    Counted in looks, so that a daemon that was suspended blames nobody for it.
    """

    seconds: float = 0.0
    seen: tuple[int, int | None] = (-1, None)
    """Signs of life and the job, at the last look."""

    def after(self, look: float, signs: int, job: int | None) -> Silence:
        """So many seconds later, as one looks again."""
        seen = (signs, job)
        return Silence(self.seconds + look if job is not None and seen == self.seen else 0.0, seen)


class Worker:
    """Whoever wants a job done awaits `call`; `run` keeps a process there to do it."""

    def __init__(
        self,
        make_open: Callable[[], Awaitable[Open]],
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        pauses: Backoff | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._make_open, self._command, self._environment = make_open, command, environment
        self._pauses, self._deadlines = pauses or Backoff(), deadlines or Deadlines()
        self._life: Life | None = None  # the process that there is, whatever it does
        self._ready: Life | None = None  # the same, once it takes jobs
        self._refusal: PeerdError | None = None  # why the very first one would not open
        self._opened: Opened | None = None  # what the last one that opened said of itself
        self._stopping = asyncio.Event()
        self._deaths = self._restarts = 0  # in a row, for the pause; in all, for people
        self._last_error = self._why_killed = ""  # what people are told; what a kill of ours is reported as
        self._rate, self._shortage = Rate(), Shortage()
        self._reading = ""
        self.trouble = ""
        """What a job waits for, in words; empty if it goes on."""

    async def run(
        self, on_opened: Callable[[Opened], Awaitable[None]], on_died: Callable[[str], Awaitable[None]]
    ) -> None:
        """Until `stop`. Raises UsageError or WorkerError when the very first start is refused by the worker."""
        while not self._stopping.is_set():
            reason = await self._live(on_opened)
            if self._stopping.is_set():
                return
            self._deaths, self._restarts, self._last_error = self._deaths + 1, self._restarts + 1, reason
            pause = self._pauses.after(self._deaths)
            _log.warning("the worker died (%s); the next one starts in %.0f s", reason, pause)
            await on_died(reason)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def call(self, job: AnyJob, on_progress: OnProgress | None = None) -> AnyAnswer:
        """The answer to a job (its `id` is set here). Raises WorkerError if no worker lives to the end of it."""
        life = self._life_that_is_ready()

        def note(progress: JobProgress) -> None:
            self.trouble = progress.trouble
            self._rate.note(progress, time.monotonic())
            if on_progress is not None:
                on_progress(progress)

        answer = await life.call(job, note)
        if isinstance(answer, Stepped | Merged):
            self._deaths = 0
            self._shortage = self._shortage.after_job(STATES[type(job)])
        if isinstance(answer, Stepped | Merged | Encoded | JobFailed):
            self.trouble = ""
        return answer

    async def respond(self, job: Respond, on_spoken: OnSpoken) -> AnyAnswer:
        """How it ended (its `id` is set here), once all of it was told; ends with its caller. Raises WorkerError."""
        return await self._life_that_is_ready().respond(job, on_spoken)

    def _life_that_is_ready(self) -> Life:
        if self._ready is None:
            raise WorkerError(f"the worker is not ready: {self._last_error or 'it is starting'}", "peerd status")
        return self._ready

    def restart(self, reason: str) -> None:
        """Kill the process, so that another takes its place: for failures after which its state is in doubt."""
        self._why_killed = reason
        self.kill()

    async def stop(self, grace_seconds: float) -> None:
        """Ask the process to leave, and kill it when it has not within the grace. `run` then returns."""
        self._stopping.set()
        if (life := self._life) is None:
            return
        try:
            async with asyncio.timeout(grace_seconds):
                await life.call(Close(id=0))
                await life.ended.wait()
        except (TimeoutError, WorkerError):
            life.kill()

    def kill(self) -> None:
        if self._life is not None:
            self._life.kill()

    def pids(self) -> list[int]:
        """Of the process that lives, or has just ended."""
        life = self._life
        return [] if life is None else [life.pid]

    def now(self) -> WorkerNow:
        return WorkerNow(
            state=self._state(),
            device=self._opened.device if self._opened else "",
            precision=self._opened.precision if self._opened else "",
            precision_why=self._opened.precision_why if self._opened else "",
            twin=self._opened.twin if self._opened else "",
            twin_why=self._opened.twin_why if self._opened else "",
            tokens_per_second=self._rate.tokens_per_second,
            known_as=self._opened.known_as if self._opened else "",
            licence=self._opened.licence if self._opened else "",
            restarts=self._restarts,
            last_error=self._last_error,
            reading=self._reading,
            memory=self._shortage.now(),
        )

    def _state(self) -> str:
        if self._stopping.is_set():
            return "stopped"
        if self._life is None or (self._ready is None and self._life.working_on is None):
            return "restarting" if self._restarts else "starting"
        job = self._life.working_on
        return STATES.get(type(job), "idle") if job is not None else "idle"

    async def _live(self, on_opened: Callable[[Opened], Awaitable[None]]) -> str:
        """One process from start to end; returns why it ended."""
        environment = faults.of_successor(self._environment) if self._restarts else self._environment
        try:
            self._life = life = await Life.begin(self._command, environment)
        except WorkerError as error:
            return str(error)
        try:
            async with asyncio.TaskGroup() as tasks:
                end = tasks.create_task(life.run(), name="worker")
                watch = tasks.create_task(self._watch(life), name="watch of the worker")
                refused = await self._open(life, on_opened)
                if refused:
                    self._why_killed = refused
                    life.kill()
                reason = await end
                watch.cancel()
        finally:
            self._life = self._ready = None
            self.trouble = self._reading = ""
        if self._refusal is not None:
            raise self._refusal
        reason, self._why_killed = self._why_killed or reason, ""
        self._note_death(reason, life.died_doing)
        return reason

    def _note_opening(self, progress: JobProgress) -> None:
        if (planned := progress.planned) is not None:
            done = f"; {planned.memory.measures}" if planned.memory.measures else ""
            _log.info("memory: %s%s", planned.memory.said, done)
            self._shortage = self._shortage.after_planning(planned)
        else:
            self._reading = how_far(progress)

    def _note_death(self, reason: str, job: AnyJob | Respond | None) -> None:
        before = self._shortage
        self._shortage = before.after_death(reason, STATES.get(type(job), "") if job is not None else "")
        if self._shortage.avoid != before.avoid:
            _log.warning("workers ran out of memory; the next one takes a lighter way")

    async def _watch(self, life: Life) -> None:
        """Kill a worker that hangs."""
        silence = Silence()
        while True:
            await asyncio.sleep(self._deadlines.look)
            job = life.working_on
            silence = silence.after(self._deadlines.look, life.signs, None if job is None else job.id)
            if job is not None and silence.seconds >= self._deadlines.of(job):
                doing = STATES.get(type(job), "working")
                self.restart(f"it hung: no sign of life for {silence.seconds:.3g} s while {doing}")
                return

    async def _open(self, life: Life, on_opened: Callable[[Opened], Awaitable[None]]) -> str:
        """Why the worker would not open, empty if it did or is gone."""
        try:
            job = msgspec.structs.replace(await self._make_open(), lighter_than=self._shortage.avoid)
            answer = await life.call(job, self._note_opening)
        except WorkerError:
            return ""
        if isinstance(answer, Opened):
            self._opened, self._ready, self._reading = answer, life, ""
            self._shortage = self._shortage.after_job("starting")
            await on_opened(answer)
            return ""
        assert isinstance(answer, JobFailed)
        if self._opened is None:
            self._refusal = as_error(answer)
        return f"{answer.code}: {answer.message}"


def how_far(progress: JobProgress) -> str:
    """`reading files: 31,200 of 100,000`; nothing is counted where nobody knows how much there is."""
    return f"{progress.activity}: {progress.done:,}" + (f" of {progress.total:,}" if progress.total else "")


def as_error(failure: JobFailed) -> PeerdError:
    """A failed job as the error to show: the user's mistakes are usage errors, anything else is the worker's."""
    if failure.code == learning_errors.PromptTooLong.__name__:
        return TooLong(failure.message, failure.hint)
    family = UsageError if failure.code in USER_ERRORS or failure.code == UsageError.__name__ else WorkerError
    return family(failure.message, failure.hint)


class Rate:
    """Tokens a second of the job that trains, from its progress notes; the last figure stays while nothing trains."""

    def __init__(self) -> None:
        self.tokens_per_second: float | None = None
        self._job = -1
        self._began = (0.0, 0)

    def note(self, progress: JobProgress, at: float) -> None:
        """The first note of a job is the start of its measurement."""
        if progress.activity != "training":
            return
        if progress.id != self._job:
            self._job, self._began = progress.id, (at, progress.tokens)
            return
        seconds, tokens = at - self._began[0], progress.tokens - self._began[1]
        if seconds > 0 and tokens > 0:
            self.tokens_per_second = tokens / seconds
