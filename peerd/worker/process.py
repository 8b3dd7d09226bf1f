"""One worker process from its start to its end: jobs go in, answers come back to whoever waits for them.

Starts nothing again and decides nothing; `supervisor.py` does. When the process ends, however it ends, everyone who
waits is told by a WorkerError and nobody waits for ever.

Jobs are numbered, and an answer goes to the caller of its number, so several callers may wait at once and one of them
may leave; the process works on one job at a time, the oldest (`working_on`), and does some quick ones in between.
Answers to people are made beside it: what a process dies of or hangs at is laid to the job.
Invariants: a number is in `_waiting` exactly while its caller waits; once `_over` is set no job is sent and every
answer is settled. PENDING_JOBS bounds what is on the way, and the child's queue holds twice as many, so writing to the
pipe never blocks for long.

Bytes on standard output that are no frame mean that something other than our code wrote there: the process is killed,
not believed. Its standard error is the log, cut and bounded, and its last line is the best word on why it ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from p2pfinetune.system import interpreter
from peerd.errors import WorkerError
from peerd.worker import framing, ram_limit
from peerd.worker.messages import AnyAnswer, AnyJob, Cancel, JobProgress, Respond, Sent, Spoken

OnProgress = Callable[[JobProgress], None]
OnSpoken = Callable[[Spoken], None]

RESPONSES_AT_ONCE: Final = 4  # under way in the process, which keeps what the model has read of each; others wait here
PENDING_JOBS: Final = 32  # beyond this many, callers wait; the child holds twice as many
LINE_BYTES: Final = 64 * 1024  # of what the child prints, before a line is cut
SHOWN_CHARACTERS: Final = 1000  # of such a line in the log
REMEMBERED_LINES: Final = 5
LOG_HINT: Final = "the log says why: peerd paths shows where it is"
BURIAL_SECONDS: Final = 2.0
EXIT_OUT_OF_MEMORY: Final = 12  # as in child.py, which imports too much to be imported here

_log = logging.getLogger("peerd.worker")


class Waiting:
    """Somebody who waits for the end of a job."""

    __slots__ = ("answer", "job", "on_progress", "on_spoken")

    def __init__(
        self, job: AnyJob | Respond, on_progress: OnProgress | None = None, on_spoken: OnSpoken | None = None
    ) -> None:
        self.job, self.on_progress, self.on_spoken = job, on_progress, on_spoken
        self.answer: asyncio.Future[AnyAnswer] = asyncio.get_running_loop().create_future()


class Life:
    """A running process. Made by `begin`; `run` must be running for answers to arrive."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._jobs, self._answers = framing.jobs(), framing.answers()
        self._waiting: dict[int, Waiting] = {}
        self._room = asyncio.Semaphore(PENDING_JOBS)
        self._voices = asyncio.Semaphore(RESPONSES_AT_ONCE)
        self._lines: deque[str] = deque(maxlen=REMEMBERED_LINES)  # what it printed last, for `describe`
        self._next_id = 0
        self._over = False
        self.signs = 0
        """Frames that have come from the process: its signs of life."""
        self.ended = asyncio.Event()
        self.died_doing: AnyJob | Respond | None = None
        """The oldest job that it never answered."""
        self._killed_before = ram_limit.kernel_kills()

    @classmethod
    async def begin(cls, command: Sequence[str], environment: Mapping[str, str]) -> Life:
        """In a session of its own, so that Ctrl-C in a terminal reaches the daemon alone. Raises WorkerError."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=LINE_BYTES,
                cwd=interpreter.FOLDER,
                env=dict(environment),
            )
        except OSError as error:  # no memory, no process or no descriptor is left
            raise WorkerError(f"it cannot be started: {error.strerror or error}") from error
        ram_limit.offer_first(process.pid)
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def working_on(self) -> AnyJob | Respond | None:
        """The oldest job without an answer; a person's question, which has its turns beside jobs, if there is none."""
        jobs = [waiting.job for waiting in self._waiting.values()]
        return next((job for job in jobs if not isinstance(job, Respond)), jobs[0] if jobs else None)

    async def run(self) -> str:
        """Hand out answers until the process has ended; returns why it did, in words."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read_log(), name="worker log")
                await self._read_answers()
                await self._process.wait()
        finally:
            self.kill()
            await self._bury()
            self.ended.set()
        for_memory = ram_limit.kernel_kills() > self._killed_before
        return describe(self._process.returncode, self._lines[-1] if self._lines else "", for_memory=for_memory)

    async def call(self, job: AnyJob, on_progress: OnProgress | None = None) -> AnyAnswer:
        """The answer to a job, a JobFailed included. Raises WorkerError when the process ends first."""
        async with self._room:
            if self._over:
                raise WorkerError("the worker process has ended", LOG_HINT)
            self._next_id += 1
            job = replace(job, id=self._next_id)
            waiting = self._waiting[job.id] = Waiting(job, on_progress)
            try:
                await self._send(job)
                return await waiting.answer
            finally:
                del self._waiting[job.id]

    async def respond(self, job: Respond, on_spoken: OnSpoken) -> AnyAnswer:
        """How it ended, a JobFailed included. Raises WorkerError when the process ends first.

        If the caller is cancelled, so is what it waits for; its place is free once the process has let it go.
        """
        await self._voices.acquire()
        if self._over:
            self._voices.release()
            raise WorkerError("the worker process has ended", LOG_HINT)
        self._next_id += 1
        job = replace(job, id=self._next_id)
        waiting = self._waiting[job.id] = Waiting(job, on_spoken=on_spoken)
        waiting.answer.add_done_callback(lambda answer: self._let_go(job.id, answer))
        try:
            await self._send(job)
            return await asyncio.shield(waiting.answer)
        except asyncio.CancelledError:
            waiting.on_spoken = None
            if not waiting.answer.done():
                self._write(Cancel(id=job.id))
            raise

    def _let_go(self, job_id: int, answer: asyncio.Future[AnyAnswer]) -> None:
        answer.exception()  # is looked at here, for nobody may wait for it any more
        del self._waiting[job_id]
        self._voices.release()

    def kill(self) -> None:
        """End the process now; harmless when it has ended."""
        if self._process.returncode is None:
            try:
                self._process.kill()
            except ProcessLookupError:
                return

    async def _bury(self) -> None:
        """Close the pipes and take the exit status; a killed process ends at once, unless a disk or driver hangs."""
        try:
            async with asyncio.timeout(BURIAL_SECONDS):
                await self._process.communicate()
        except TimeoutError:
            _log.warning("the killed worker does not end", extra={"worker_pid": self.pid})

    async def _send(self, job: AnyJob | Respond) -> None:
        try:
            await self._write(job).drain()
        except ConnectionError:
            raise WorkerError("the worker process has ended", LOG_HINT) from None

    def _write(self, message: Sent) -> asyncio.StreamWriter:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(self._jobs.pack(message))
        return pipe

    async def _read_answers(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        try:
            while (answer := await self._answers.read_async(stream)) is not None:
                self._deliver(answer)
        except framing.GarbledError as error:
            self._lines.append(str(error))
            _log.warning("the worker wrote something that is no answer: %s", error)
            self.kill()
        finally:
            self._over, self.died_doing = True, self.working_on
            for waiting in [*self._waiting.values()]:
                if not waiting.answer.done():
                    waiting.answer.set_exception(WorkerError("the worker process has ended", LOG_HINT))

    def _deliver(self, answer: AnyAnswer) -> None:
        self.signs += 1
        waiting = self._waiting.get(answer.id)
        if waiting is None or waiting.answer.done():
            return  # whoever asked was cancelled
        if isinstance(answer, JobProgress):
            if waiting.on_progress is not None:
                waiting.on_progress(answer)
        elif isinstance(answer, Spoken):
            if waiting.on_spoken is not None:
                waiting.on_spoken(answer)
        else:
            waiting.answer.set_result(answer)

    async def _read_log(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # longer than LINE_BYTES; the stream has dropped it
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()[:SHOWN_CHARACTERS]
            if text:
                self._lines.append(text)
                _log.info("%s", text, extra={"worker_pid": self.pid})


def describe(returncode: int | None, last_line: str, *, for_memory: bool = False) -> str:
    """Why a process ended, in words. `for_memory`: meanwhile the kernel killed somebody for lack of memory."""
    if returncode == EXIT_OUT_OF_MEMORY:
        return last_line if last_line.startswith("out of memory") else "out of memory"
    if returncode and ram_limit.TOLD_BY_NATIVE_CODE.search(last_line):
        return f"out of memory: {last_line}"
    if returncode is not None and returncode < 0:
        name = signal.Signals(-returncode).name
        if name == "SIGKILL" and for_memory:
            return "out of memory: killed by the kernel"
        return f"killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
    return f"exit code {returncode}" + (f": {last_line}" if last_line else "")


def child_command() -> list[str]:
    """How the worker is started."""
    return interpreter.command("-m", "peerd.worker.child", str(os.getpid()))


def child_environment(environment: Mapping[str, str], threads: int) -> dict[str, str]:
    """The daemon's environment; torch reads its thread count when it is imported, 0 leaves the choice to it.

    Threads that wait for one another sleep instead of spinning: beside other busy processes, which is where a niced
    worker lives, spinning made a training step take a hundred times as long (docs/LOG.md).
    """
    quiet = {"TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return {"OMP_WAIT_POLICY": "PASSIVE", **interpreter.environment(environment), **quiet, **counts}
