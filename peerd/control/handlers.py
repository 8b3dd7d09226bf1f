"""How each verb is answered: one function a row of `peerd.control.verbs`, bound to it by `answers_to`.

A handler is given a `Call`, in which the question is already of the row's type, and gives the row's answer; the type
checker holds it to both. It gives a response instead if more than the document is to be said: another status, plain
text, a stream. Handlers decide nothing: they read the snapshot, or pass the question on through `DaemonView`.

Two kinds of question, by what they cost. What is answered from memory is answered at once, whatever else runs. What
needs the worker (generate, export, the test split) or stays open (watching) first takes a seat (`peerd.control.seats`),
and is refused as `busy` if there is none, so that no script can make `peerd status` wait.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from p2pfinetune.errors import UNREADABLE
from p2pfinetune.names import PeerId
from p2pfinetune.scoring.perplexity import bounded
from p2pfinetune.speech import Begun, Ended, Piece
from peerd.control import answers, metrics, questions, verbs
from peerd.control.drawings import PanelsDrawn
from peerd.control.event_stream import MAX_WATCHERS, MAX_WATCHERS_OF_ONE, EventStream
from peerd.control.explain import HISTORY, trust_now
from peerd.control.panels import draw_all
from peerd.control.questions import LastRounds, Nothing
from peerd.control.responses import answer, bounded_body, problem
from peerd.control.seats import CALLER, Seats
from peerd.control.spoken_stream import SpokenStream
from peerd.control.verbs import Verb
from peerd.errors import Busy, UsageError
from peerd.status import RoundRecord, Status

MAX_BODY = 256 * 1024  # bytes; a prompt of MAX_PROMPT characters and some room
PAGE_ROUNDS = 500  # rounds on the dashboard
MAX_JOBS = 32  # of people and scripts, waiting for the worker; each holds a connection
MAX_JOBS_OF_ONE = 16  # process

Asked = TypeVar("Asked", bound=msgspec.Struct)
Answer = TypeVar("Answer")


class DaemonView(Protocol):
    """What the shell lets the interface see and ask. Reading is quick and never waits."""

    def status(self) -> Status:
        """The snapshot of this moment."""
        ...

    def rounds(self, last: int) -> list[RoundRecord]:
        """At most the last so many finished rounds, oldest first."""
        ...

    def sent(self, last: int) -> answers.Sent:
        """What left this device in at most the last so many rounds."""
        ...

    def paths(self) -> dict[str, str]:
        """Where this daemon's files are."""
        ...

    def changes(self) -> AsyncIterator[None]:
        """Wakes a watcher when the snapshot has changed; any number of changes may be one wake."""
        ...

    async def generate(self, asked: questions.GenerateQuestion) -> answers.Continuations:
        """By each model, and which is served. Raises WorkerError."""
        ...

    async def respond(self, asked: questions.RespondQuestion, tell: Callable[[Begun | Piece], None]) -> Ended:
        """Of one model, told as it comes; cancelled with its caller. Raises WorkerError, and UsageError at first."""
        ...

    async def export(self, asked: questions.ExportQuestion) -> answers.ExportedFolder:
        """Write the adapter of one model as a PEFT folder. Raises WorkerError."""
        ...

    async def test_losses(self) -> answers.TestLosses:
        """As they were measured: infinite, perhaps. Raises WorkerError."""
        ...

    async def evaluate(self, asked: questions.EvalQuestion) -> answers.Evaluated:
        """Every model on a text. Raises WorkerError, and UsageError for a text that cannot be measured."""
        ...

    async def lift_ban(self, peer: PeerId) -> None:
        """Hear of a banned peer again."""
        ...

    def request_stop(self, reason: str) -> None:
        """Begin to stop; returns at once."""
        ...

    async def debug(self, action: questions.Debugging, word: str) -> answers.Debugged:
        """Of the flight recorder."""
        ...


class Callers:
    """Who watches and who waits for the worker, counted by process."""

    def __init__(self) -> None:
        self.watchers = Seats(MAX_WATCHERS, MAX_WATCHERS_OF_ONE)
        self.jobs = Seats(MAX_JOBS, MAX_JOBS_OF_ONE)


@dataclass(frozen=True, slots=True)
class Call(Generic[Asked]):
    """One request that was understood."""

    question: Asked
    view: DaemonView
    callers: Callers
    request: Request

    @property
    def caller(self) -> int | None:
        """The process that asks, if the server knows."""
        found: int | None = self.request.scope.get("state", {}).get(CALLER)
        return found

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Counted while it waits for the worker. Raises Busy."""
        caller = self.caller
        if not self.callers.jobs.take(caller):
            said = f"{MAX_JOBS} jobs wait for the worker already, or {MAX_JOBS_OF_ONE} of your process"
            raise Busy(said, "wait until one has ended")
        try:
            yield
        finally:
            self.callers.jobs.give_back(caller)


async def question_of(verb: Verb[Asked, Any], request: Request) -> Asked:
    """What the request asks. Raises UsageError, which names the field."""
    if verb.question is Nothing:
        return verb.question()
    if verb.method == "GET":
        return questions.from_query(verb.question, request.query_params)
    body = await bounded_body(request, MAX_BODY)
    if body is None:
        raise UsageError(f"a request has at most {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=verb.question)
    except UNREADABLE as error:
        raise UsageError(f"the request is not understood: {error}") from error


Handler = Callable[[Call[Any]], Awaitable[Any]]
HANDLERS: dict[str, Handler] = {}
"""By the name of the verb."""

Bound = Callable[[Call[Asked]], Awaitable[Answer | Response]]


def answers_to(verb: Verb[Asked, Answer]) -> Callable[[Bound[Asked, Answer]], Bound[Asked, Answer]]:
    """Bind a handler to its verb."""

    def bind(handler: Bound[Asked, Answer]) -> Bound[Asked, Answer]:
        assert verb.name not in HANDLERS, f"{verb.name} has two handlers"
        HANDLERS[verb.name] = handler
        return handler

    return bind


@answers_to(verbs.STATUS)
async def status(call: Call[Nothing]) -> Status:
    return call.view.status()


@answers_to(verbs.HEALTH)
async def health(call: Call[Nothing]) -> Response:
    """Of the snapshot; monitors look at the HTTP status alone."""
    found = call.view.status().health
    return answer(found, 200 if found.ok else 503)


@answers_to(verbs.PEERS)
async def peers(call: Call[Nothing]) -> answers.PeersNow:
    now = call.view.status()
    return answers.PeersNow(peers=now.neighbours, banned=now.banned)


@answers_to(verbs.TRUST)
async def trust(call: Call[Nothing]) -> answers.TrustNow:
    """Put together from the snapshot and the last rounds."""
    return trust_now(call.view.status(), call.view.rounds(HISTORY))


@answers_to(verbs.ROUNDS)
async def rounds(call: Call[LastRounds]) -> answers.RoundsDone:
    return answers.RoundsDone(rounds=call.view.rounds(call.question.last))


@answers_to(verbs.SENT)
async def sent(call: Call[LastRounds]) -> answers.Sent:
    return call.view.sent(call.question.last)


@answers_to(verbs.IDENTITY)
async def identity(call: Call[Nothing]) -> answers.Identity:
    """What of the snapshot is told to others."""
    now = call.view.status()
    return answers.Identity(
        peer_id=now.peer_id,
        name=now.name,
        version=now.version,
        addresses=now.addresses,
        network=now.network,
        group=now.group,
        invitations=now.invitations,
        invitation_notes=now.invitation_notes,
        joining=now.joining,
    )


@answers_to(verbs.PATHS)
async def paths(call: Call[Nothing]) -> dict[str, str]:
    return call.view.paths()


@answers_to(verbs.PANELS)
async def panels(call: Call[Nothing]) -> PanelsDrawn:
    return PanelsDrawn(panels=draw_all(call.view.status(), call.view.rounds(PAGE_ROUNDS)))


@answers_to(verbs.METRICS)
async def exposition(call: Call[Nothing]) -> Response:
    """As text, for Prometheus and its like."""
    text = metrics.exposition(call.view.status(), call.view.rounds(1))
    return Response(text, headers={"content-type": metrics.CONTENT_TYPE, "cache-control": "no-store"})


@answers_to(verbs.EVENTS)
async def events(call: Call[Nothing]) -> Response:
    """The whole snapshot first, then on every change."""
    caller, watchers, view = call.caller, call.callers.watchers, call.view
    if not watchers.take(caller):
        said = f"{MAX_WATCHERS} watchers are connected already, or {MAX_WATCHERS_OF_ONE} of your process"
        return problem("busy", said, "close one", status=503)
    stream = EventStream(
        "status",
        lambda: msgspec.json.encode(view.status()),
        view.changes(),
        stop=getattr(call.request.app.state, "stop", None),
    )
    return _Counted(stream, lambda: watchers.give_back(caller))


@answers_to(verbs.STOP)
async def stop(call: Call[questions.StopQuestion]) -> Response:
    """It is heard, and goes on ending after the answer."""
    call.view.request_stop(call.question.reason)
    return answer(answers.StopHeard(), 202)


@answers_to(verbs.GENERATE)
async def generate(call: Call[questions.GenerateQuestion]) -> answers.Continuations:
    with call.job():
        return await call.view.generate(call.question)


@answers_to(verbs.RESPOND)
async def respond(call: Call[questions.RespondQuestion]) -> Response:
    """It has its seat until it has ended, or the listener has gone."""
    seat = contextlib.ExitStack()
    seat.enter_context(call.job())
    stream = SpokenStream(
        lambda tell: call.view.respond(call.question, tell), stop=getattr(call.request.app.state, "stop", None)
    )
    return _Counted(stream, seat.close)


@answers_to(verbs.EXPORT)
async def export(call: Call[questions.ExportQuestion]) -> answers.ExportedFolder:
    """By the worker, which stands in no folder of the person's."""
    folder = call.question.folder
    if not os.path.isabs(folder) or "\0" in folder:  # noqa: PTH117  # a string that no path is made of
        raise UsageError(f"folder: {folder[:200]!r} is not a whole path", "the daemon stands in no folder of yours")
    with call.job():
        return await call.view.export(call.question)


@answers_to(verbs.TEST)
async def test(call: Call[Nothing]) -> answers.TestLosses:
    """By the worker; JSON has no infinity."""
    with call.job():
        found = await call.view.test_losses()
    return msgspec.structs.replace(
        found,
        base=bounded(found.base),
        own=bounded(found.own),
        personal=bounded(found.personal),
        twin=bounded(found.twin),
        served=bounded(found.served),
    )


@answers_to(verbs.EVAL)
async def evaluate(call: Call[questions.EvalQuestion]) -> answers.Evaluated:
    """By the worker, which stands in no folder of the person's."""
    for file in call.question.files:
        if not os.path.isabs(file) or "\0" in file:  # noqa: PTH117  # a string that no path is made of
            raise UsageError(f"files: {file[:200]!r} is not a whole path", "the daemon stands in no folder of yours")
    with call.job():
        return await call.view.evaluate(call.question)


@answers_to(verbs.UNBAN)
async def unban(call: Call[questions.UnbanQuestion]) -> answers.Unbanned:
    """If there is a ban to lift."""
    peer_id = call.question.peer_id
    if peer_id not in {banned.peer_id for banned in call.view.status().banned}:
        raise UsageError(f"{peer_id[:60]!r} is not banned", "who is: peerd peers")
    await call.view.lift_ban(PeerId(peer_id))
    return answers.Unbanned(peer_id=peer_id)


@answers_to(verbs.DEBUG)
async def debug(call: Call[questions.DebugQuestion]) -> answers.Debugged:
    if call.question.action == "story" and not call.question.word:
        raise UsageError("a story is about a peer or a blob", "peerd debug story ID")
    with call.job():
        return await call.view.debug(call.question.action, call.question.word)


class _Counted(Response):
    """An event stream that is counted while it lasts."""

    def __init__(self, stream: Response, over: Callable[[], None]) -> None:
        self._stream, self._over = stream, over
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(scope, receive, send)
        finally:
            self._over()
