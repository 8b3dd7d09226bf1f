"""What the control interface may see and ask: `peerd.control.handlers.DaemonView` over the parts of the daemon.

Reading is quick and touches no disk. Asking the worker is a job like any other: it waits its turn between two steps of
training, JOBS_AT_ONCE of them at a time, and a worker that dies meanwhile is an error for who asked and no end of the
daemon. Wishes (stop, unban) go the way of every event, so the core alone changes its state.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import Literal, TypeVar

import msgspec

from p2pfinetune.names import PeerId
from p2pfinetune.speech import Begun, Ended, Piece, Sampling
from peerd.control.answers import Continuations, Debugged, Evaluated, ExportedFolder, Look, Sent, TestLosses
from peerd.control.questions import Debugging, EvalQuestion, ExportQuestion, GenerateQuestion, RespondQuestion
from peerd.core.events import BanLifted
from peerd.daemon import looks
from peerd.daemon.journal import Journal
from peerd.daemon.ledger import sent_document
from peerd.daemon.recorder import FlightRecorder
from peerd.daemon.shell import Shell
from peerd.errors import WorkerError
from peerd.machine.apart import apart
from peerd.machine.paths import Paths
from peerd.status import RoundRecord, Status
from peerd.testing.replay import encoded, replayed, story
from peerd.worker.messages import (
    AnyAnswer,
    AnyJob,
    EvaluateTest,
    EvaluateText,
    Export,
    Exported,
    Generate,
    Generated,
    JobFailed,
    Respond,
    Responded,
    TestEvaluated,
    TextEvaluated,
)
from peerd.worker.supervisor import Worker, as_error

Wanted = TypeVar("Wanted", bound=AnyAnswer)

MAX_LINES = 2000  # of one story
JOBS_AT_ONCE = 4  # of people and scripts together; the rest wait their turn and training goes on between


class LiveView:
    """Reads are quick; what needs the worker waits for it."""

    def __init__(
        self,
        *,
        paths: Paths,
        shell: Shell,
        journal: Journal,
        worker: Worker,
        status: Callable[[], Status],
        stop: Callable[[str], None],
        clock: Callable[[], float],
        recorder: FlightRecorder,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is monotonic, `wall` gives Unix seconds."""
        self._paths, self._shell, self._journal, self._worker = paths, shell, journal, worker
        self._status, self._stop, self._clock = status, stop, clock
        self._recorder, self._wall = recorder, wall
        self._looking = asyncio.Lock()
        self._turn = asyncio.Semaphore(JOBS_AT_ONCE)

    def status(self) -> Status:
        """The snapshot of this moment."""
        return self._status()

    def rounds(self, last: int) -> list[RoundRecord]:
        return list(self._journal.records)[-last:]

    def sent(self, last: int) -> Sent:
        """What left this device in the last rounds."""
        return sent_document(self._status(), self._journal, last)

    def paths(self) -> dict[str, str]:
        return self._paths.named()

    def changes(self) -> AsyncIterator[None]:
        return self._shell.changes()

    async def generate(self, asked: GenerateQuestion) -> Continuations:
        """By each model, and which is served."""
        found = await self._ask(Generate(id=0, **msgspec.structs.asdict(asked)), Generated)
        return Continuations(
            prompt=asked.prompt,
            base=found.base,
            own=found.own,
            personal=found.personal,
            served=found.served,
            served_by=found.served_by,
        )

    async def respond(self, asked: RespondQuestion, tell: Callable[[Begun | Piece], None]) -> Ended:
        """Of one model, told as it comes."""
        job = Respond(
            id=0,
            which="local" if asked.model == "twin" else asked.model,
            prompt=asked.prompt,
            chat=asked.chat,
            sampling=Sampling(**{name: getattr(asked, name) for name in Sampling.__struct_fields__}),
            cuts=asked.cuts,
        )
        answer = await self._worker.respond(job, lambda spoken: tell(spoken.said))
        if isinstance(answer, JobFailed):
            raise as_error(answer)
        if not isinstance(answer, Responded):
            raise WorkerError(f"the worker answered Respond with {type(answer).__name__}")
        return answer.ended

    async def export(self, asked: ExportQuestion) -> ExportedFolder:
        """One of the models in a form that other programs load."""
        found = await self._ask(Export(id=0, **msgspec.structs.asdict(asked)), Exported)
        return ExportedFolder(
            folder=asked.folder, files=found.files, which=found.which, format=asked.format, bytes=found.bytes
        )

    async def test_losses(self) -> TestLosses:
        """Of the whole test split; this is a look at it, too."""
        found = msgspec.structs.asdict(await self._ask(EvaluateTest(id=0), TestEvaluated))
        async with self._looking:
            await self._note_look(await apart(looks.read, self._paths.looks), None)
        return TestLosses(**{name: found[name] for name in TestLosses.__struct_fields__ if name in found})

    async def evaluate(self, asked: EvalQuestion) -> Evaluated:
        """On files, or on the own test split: of that, the figures of the first look unless it is asked for again."""
        job = EvaluateText(id=0, files=list(asked.files), max_tokens=asked.max_tokens)
        if asked.files:
            return _told(await self._ask(job, TextEvaluated), "files")
        async with self._looking:
            kept = await apart(looks.read, self._paths.looks)
            if kept.first is not None and not asked.again:
                return msgspec.structs.replace(kept.first, looks=list(kept.looks), is_kept=True)
            found = _told(await self._ask(job, TextEvaluated), "heldout")
            kept = await self._note_look(kept, found)
            return msgspec.structs.replace(found, looks=list(kept.looks))

    async def _note_look(self, kept: looks.Looks, seen: Evaluated | None) -> looks.Looks:
        """Written down before anything is told. Raises StoreError."""
        after = kept.after(Look(unix=self._wall(), round=self._status().round), seen)
        await apart(looks.write, self._paths.looks, after)
        return after

    async def lift_ban(self, peer: PeerId) -> None:
        """Hear of a banned peer again."""
        await self._shell.tell(BanLifted(at=self._clock(), peer=peer))

    async def debug(self, action: Debugging, word: str) -> Debugged:
        """Of the flight recorder; whatever takes time does so in a thread."""
        if action in {"check", "no-check"}:
            self._recorder.checks = action == "check"
        make, found = (
            self._recorder.ring.record("asked for"),
            Debugged(events=self._recorder.ring.events, checks=self._recorder.checks),
        )
        if action == "record":
            return msgspec.structs.replace(found, record=await apart(lambda: encoded(make())))
        if action == "story":
            lines = await apart(lambda: list(islice(story(replayed(make(), check=False), word), MAX_LINES)))
            return msgspec.structs.replace(found, lines=lines)
        return found

    def request_stop(self, reason: str) -> None:
        self._stop(reason)

    async def _ask(self, job: AnyJob, kind: type[Wanted]) -> Wanted:
        async with self._turn:
            answer = await self._worker.call(job)
        if isinstance(answer, JobFailed):
            raise as_error(answer)
        if not isinstance(answer, kind):
            raise WorkerError(f"the worker answered {type(job).__name__} with {type(answer).__name__}")
        return answer


def _told(found: TextEvaluated, on: Literal["files", "heldout"]) -> Evaluated:
    rest = {name: getattr(found, name) for name in TextEvaluated.__struct_fields__ if name != "id"}
    return Evaluated(on=on, **rest)
