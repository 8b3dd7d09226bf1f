"""The worker process: `python -m peerd.worker.child`, started by `process.py` and by nobody else.

It owns torch, the model and the documents; the daemon never loads any of them. Jobs come on what was standard input
and answers leave on what was standard output; whatever a library prints goes to standard error, that is to the
daemon's log. It leaves when the daemon asks, and at once when the daemon is gone.

Two threads: one reads jobs and notices the end of the pipe, even in the middle of a long step; the other does the jobs,
one at a time, since torch and the model are not for two. A long job gives quick ones their turn at points that it
chooses (`between`); what arrives and is neither quick nor the end waits in `_later`, in its order. Answers to people
(`Respond`) are no job to be done at once: they have their turns at the same points, as `rota` says, and all the time
if there is nothing else to do.

Errors have three ways out. One that is the user's or the machine's is an answer (`JobFailed`). One that nobody foresaw
is an answer too, with its traceback in the log. Lack of memory ends the process: what torch holds after a failed
allocation is in doubt, and a new process is cheaper than a proof.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, NoReturn, Protocol, TypeVar

from p2pfinetune.errors import LearningError
from p2pfinetune.speech import Ended
from p2pfinetune.system import streams
from p2pfinetune.system.path_names import shown
from peerd.errors import PeerdError
from peerd.machine import faults
from peerd.machine.orphans import die_with_parent
from peerd.worker import framing, ram_limit
from peerd.worker.jobs import Between, Jobs
from peerd.worker.messages import (
    AnyAnswer,
    AnyJob,
    AssembleFrom,
    Cancel,
    Close,
    Closed,
    CollaborateWith,
    JobFailed,
    JobProgress,
    Open,
    Respond,
    Responded,
    Sent,
    Spoken,
    TrainSteps,
)
from peerd.worker.rota import Rota, Running

NICENESS: Final = 10  # whatever else the device is doing goes first
QUEUED_JOBS: Final = 64  # the parent has no more than this many on the way
PROGRESS_SECONDS: Final = 0.25  # people read it; every step would only fill the pipe
LARGE: Final = (Open, TrainSteps, CollaborateWith, AssembleFrom)  # jobs that free much at their end
EXIT_PARENT_GONE: Final = 3
EXIT_OUT_OF_MEMORY: Final = 12  # ENOMEM
OUT_OF_MEMORY: Final = "out of memory"


class Leaving(BaseException):
    """Close came in the middle of a job; its work since the last checkpoint is dropped, as a crash would drop it."""

    def __init__(self, job: Close) -> None:
        super().__init__()
        self.job = job


class Performs(Protocol):
    """What does the jobs: `jobs.Jobs`, or a stand-in of a test."""

    def perform(self, job: AnyJob) -> AnyAnswer:
        """The answer with the job's id. What it raises becomes a JobFailed."""
        ...

    def respond(self, job: Respond) -> Iterator[Spoken | Responded | None]:
        """One pass of the model each; the last is how it ended. May raise at any, as `perform` does."""
        ...


Told = TypeVar("Told")
MakeJobs = Callable[[Between, Callable[[JobProgress], None]], Performs]
"""From `between` (called when a long job may be interrupted) and `progress`."""


class Child:
    """Takes jobs from one pipe, in order, and answers on the other."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, make_jobs: MakeJobs) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._wire = framing.jobs()
        self._arrived: queue.Queue[Sent] = queue.Queue(maxsize=QUEUED_JOBS)
        self._later: deque[AnyJob] = deque()  # what `_between` took from the queue and was not asked to do
        self._said_progress = 0.0
        self._allowed = ""
        self._turns = Rota(time.monotonic)
        self._jobs = make_jobs(self._between, self._progress)

    def run(self) -> int:
        """Work until asked to leave; returns the exit code."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        try:
            while True:
                job = self._next()
                if isinstance(job, Close):
                    break
                self._turns.work_begins()
                answer = self._answer(job)
                with faults.around("worker.answer"):
                    self._say(answer)
        except Leaving as leaving:
            job = leaving.job
        self._say(Closed(id=job.id))
        return 0

    def _next(self) -> AnyJob:
        """The next job to be done at once; those who have turns have them until there is one."""
        while not self._later:
            try:
                arrived = self._arrived.get(block=not self._turns)
            except queue.Empty:
                self._turn()
                continue
            if (job := self._admitted(arrived)) is not None:
                return job
        return self._later.popleft()

    def _admitted(self, arrived: Sent) -> AnyJob | None:
        """A job to be done at once; None if it is for the turns."""
        if isinstance(arrived, Respond):
            self._turns.add(arrived)
        elif isinstance(arrived, Cancel):
            if (running := self._turns.remove(arrived.id)) is not None:
                ended = Ended(reason="cancelled", prompt_tokens=0, completion_tokens=0)
                self._say(Responded(id=running.job.id, ended=ended))
        else:
            return arrived
        return None

    def _turn(self) -> None:
        """One pass of the model for who has waited longest."""
        running = self._turns.take()
        told = self._guarded(running.job, lambda: self._pass_of(running))
        self._turns.turn_over()
        if told is not None:
            self._say(told)
        if told is None or isinstance(told, Spoken):
            self._turns.put_back(running)

    def _pass_of(self, running: Running) -> AnyAnswer | None:
        if running.passes is None:
            running.passes = self._jobs.respond(running.job)
        return next(running.passes)

    def _receive(self) -> None:
        """The end of the pipe means that the daemon is gone: nothing is left to work for, not even an open job."""
        try:
            while (job := self._wire.read(self._incoming)) is not None:
                self._arrived.put(job)
        except framing.GarbledError as error:
            print(f"worker: {error}", file=sys.stderr, flush=True)  # noqa: T201  # the log is standard error here
        os._exit(EXIT_PARENT_GONE)

    def _answer(self, job: AnyJob) -> AnyAnswer:
        """The process boundary: an error of the user's or ours becomes an answer, lack of memory ends the process."""
        if isinstance(job, Open):
            self._hold(job)
            self._turns.share = job.config.serve_share
        answer = self._guarded(job, lambda: self._jobs.perform(job))
        if isinstance(job, LARGE):
            ram_limit.give_back()
        return answer

    def _guarded(self, job: AnyJob | Respond, do: Callable[[], Told]) -> Told | JobFailed:
        try:
            return do()
        except (LearningError, PeerdError) as error:
            return JobFailed(id=job.id, code=type(error).__name__, message=_lines(error), hint=shown(error.hint))
        except Exception as error:
            if ram_limit.is_lack_of(error):
                give_up(self._allowed if type(error).__name__ != "OutOfMemoryError" else f": {error}"[:200])
            if isinstance(error, OSError):  # no mistake of ours, so without a traceback
                hint = f"look at the disk of {shown(str(error.filename))}"
                return JobFailed(id=job.id, code="disk", message=shown(str(error)), hint=hint)
            traceback.print_exc()
            sys.stderr.flush()
            return JobFailed(
                id=job.id,
                code="bug",
                message=_lines(f"{type(error).__name__}: {error}")[:2000],
                hint="the log says more: peerd paths",
            )

    def _hold(self, job: Open) -> None:
        """Torch is not loaded yet, so that the limit is there before anything big is."""
        mib = ram_limit.limit_mib(job.config.worker_memory)
        if ram_limit.hold_to(mib):
            self._allowed = f"; it may take {mib} MiB: --worker-memory"

    def _between(self, quick: tuple[type[AnyJob], ...]) -> None:
        """Called by a long job when it may be interrupted by jobs of some kinds, and by turns."""
        self._turns.work_pauses()
        self._look(quick)
        while self._turns.is_time():
            self._turn()
            self._look(quick)
        self._turns.work_begins()

    def _look(self, quick: tuple[type[AnyJob], ...]) -> None:
        """At what has arrived."""
        while True:
            try:
                job = self._admitted(self._arrived.get_nowait())
            except queue.Empty:
                return
            if isinstance(job, Close):
                raise Leaving(job)
            if isinstance(job, quick):
                self._say(self._answer(job))
            elif job is not None:
                self._later.append(job)

    def _progress(self, note: JobProgress) -> None:
        now = time.monotonic()
        if note.done in {0, note.total} or now - self._said_progress >= PROGRESS_SECONDS:
            self._said_progress = now
            self._say(note)

    def _say(self, answer: AnyAnswer) -> None:
        try:
            self._outgoing.write(framed(self._wire, answer))
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(EXIT_PARENT_GONE)


def framed(wire: framing.Framing[Sent], answer: AnyAnswer) -> bytes:
    """The frame of an answer; of one that cannot be sent, that its job failed. A note of progress is left out then."""
    try:
        return wire.pack(answer)
    except (ValueError, TypeError) as error:  # text that is no UTF-8, a number out of range, too long
        if isinstance(answer, JobProgress):
            return b""
        said = f"the answer cannot be sent: {type(answer).__name__}: {error}"
        return wire.pack(JobFailed(id=answer.id, code="bug", message=shown(said)[:2000], hint="report it, please"))


def _lines(told: object) -> str:
    """What names files, encodable; lines stay lines."""
    return "\n".join(map(shown, str(told).split("\n")))


def give_up(allowed: str) -> NoReturn:
    """End at once: after a failed allocation nothing in the process can be relied on."""
    os.write(2, f"{OUT_OF_MEMORY}{allowed}\n".encode())
    os._exit(EXIT_OUT_OF_MEMORY)


def own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes for ourselves, so that nothing printed can get between the frames."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb")


def main(make_jobs: MakeJobs = Jobs) -> int:
    """`argv[1]` is the process id of the daemon."""
    streams.settle()
    incoming, outgoing = own_pipes()
    die_with_parent()  # even in the middle of a long computation
    if sys.platform == "linux" and os.getppid() != int(sys.argv[1]):  # it died before we asked
        os._exit(EXIT_PARENT_GONE)
    for ours in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the daemon decides when we leave, not the terminal
        signal.signal(ours, signal.SIG_IGN)
    os.nice(NICENESS)
    faults.arm(os.environ)
    return Child(incoming, outgoing, make_jobs).run()


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to flush, and tearing torch down takes most of a second
