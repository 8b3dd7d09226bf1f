"""The daemon's HTTP interface: typed documents over the Unix socket. Answers questions, decides nothing.

Everything it knows comes through `DaemonView`. A browser cannot reach it directly: requests that carry Origin or
Referer, or name another host than `peerd`, are refused; the loopback proxy of `peerd dashboard` speaks for the page.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from importlib import resources
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pfinetune.errors import UNREADABLE, LearningError
from p2pfinetune.names import PeerId, Which
from peerd import __version__
from peerd.control import answers, metrics
from peerd.control.event_stream import MAX_WATCHERS, MAX_WATCHERS_OF_ONE, EventStream
from peerd.control.explain import HISTORY, trust_now
from peerd.control.panels import PanelsDrawn, draw_all
from peerd.control.perplexity import bounded
from peerd.control.shares import CALLER, Shares
from peerd.errors import Busy, PeerdError, UsageError
from peerd.machine.boundary import described
from peerd.status import RoundRecord, Status

HOST = "peerd"
"""What requests must name as their host: `curl --unix-socket SOCKET http://peerd/v1/status`."""

MAX_BODY = 256 * 1024  # bytes; a prompt of MAX_PROMPT characters and some room
PAGE_ROUNDS = 500  # rounds on the dashboard
MAX_JOBS = 32  # of people and scripts, waiting for the worker; each holds a connection
MAX_JOBS_OF_ONE = 16  # process
MEDIA_TYPES = {  # the system's table may know better, and be wrong: a browser runs no module of type text/plain
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE_HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}

Asked = TypeVar("Asked")


ENDPOINTS: dict[str, tuple[Any, Any]] = {
    "GET /v1/status": (None, Status),
    "GET /v1/health": (None, answers.Health),
    "GET /v1/peers": (None, answers.PeersNow),
    "GET /v1/trust": (None, answers.TrustNow),
    "GET /v1/rounds": (None, answers.RoundsDone),
    "GET /v1/sent": (None, answers.Sent),
    "GET /v1/id": (None, answers.Identity),
    "GET /v1/paths": (None, dict[str, str]),
    "GET /v1/panels": (None, PanelsDrawn),
    "GET /v1/metrics": (None, str),
    "GET /v1/events": (None, Status),
    "POST /v1/stop": (answers.StopAsked, answers.Stopping),
    "POST /v1/generate": (answers.GenerateAsked, answers.Generated),
    "POST /v1/export": (answers.ExportAsked, answers.Exported),
    "POST /v1/test": (None, answers.TestLosses),
    "POST /v1/unban": (answers.UnbanAsked, answers.Unbanned),
}
"""Type of the request's body and of the answer's, by endpoint of the control socket; `str` is plain text."""


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

    async def generate(self, prompt: str, max_tokens: int, temperature: float, seed: int) -> dict[str, str]:
        """The fields of documents.Generated but the prompt. Raises WorkerError."""
        ...

    async def export(self, folder: str, which: Which) -> answers.Exported:
        """Write the adapter of one model as a PEFT folder. Raises WorkerError."""
        ...

    async def test_losses(self) -> dict[str, Any]:
        """The fields of documents.TestLosses. Raises WorkerError."""
        ...

    async def lift_ban(self, peer: PeerId) -> None:
        """Hear of a banned peer again."""
        ...

    def request_stop(self, reason: str) -> None:
        """Begin to stop; returns at once."""
        ...


def application(view: DaemonView) -> Starlette:
    """The interface as an application for `peerd.control.serve.serve`."""
    interface = _Interface(view)
    readers = {
        "/v1/status": interface.status,
        "/v1/health": interface.health,
        "/v1/peers": interface.peers,
        "/v1/trust": interface.trust,
        "/v1/rounds": interface.rounds,
        "/v1/sent": interface.sent,
        "/v1/id": interface.identity,
        "/v1/paths": interface.paths,
        "/v1/panels": interface.panels,
        "/v1/metrics": interface.metrics,
        "/v1/events": interface.events,
        "/": page,
        "/web/{name}": page,
    }
    doers = {
        "/v1/stop": interface.stop,
        "/v1/generate": interface.generate,
        "/v1/export": interface.export,
        "/v1/test": interface.test,
        "/v1/unban": interface.unban,
    }
    routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in readers.items()]
    routes += [Route(path, endpoint, methods=["POST"]) for path, endpoint in doers.items()]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(NoBrowsers)],
        exception_handlers={
            PeerdError: _ours,
            LearningError: _theirs,
            404: _unknown,
            405: _wrong_method,
            Exception: _unforeseen,
        },
    )
    app.router.redirect_slashes = False  # there is one spelling of a path; and it fails at a query that is no UTF-8
    return app


class _Interface:
    """One method an endpoint."""

    def __init__(self, view: DaemonView) -> None:
        self._view = view
        self._watchers = Shares(MAX_WATCHERS, MAX_WATCHERS_OF_ONE)
        self._jobs = Shares(MAX_JOBS, MAX_JOBS_OF_ONE)

    async def status(self, _: Request) -> Response:
        return answer(self._view.status())

    async def health(self, _: Request) -> Response:
        health = self._view.status().health
        return answer(answers.Health(ok=health.ok, reasons=health.reasons), 200 if health.ok else 503)

    async def peers(self, _: Request) -> Response:
        now = self._view.status()
        return answer(answers.PeersNow(peers=now.neighbours, banned=now.banned))

    async def trust(self, _: Request) -> Response:
        return answer(trust_now(self._view.status(), self._view.rounds(HISTORY)))

    async def rounds(self, request: Request) -> Response:
        return answer(answers.RoundsDone(rounds=self._view.rounds(_last(request))))

    async def sent(self, request: Request) -> Response:
        return answer(self._view.sent(_last(request)))

    async def identity(self, _: Request) -> Response:
        now = self._view.status()
        return answer(
            answers.Identity(
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
        )

    async def paths(self, _: Request) -> Response:
        return answer(self._view.paths())

    async def panels(self, _: Request) -> Response:
        drawn = draw_all(self._view.status(), self._view.rounds(PAGE_ROUNDS))
        return answer(PanelsDrawn(panels=drawn))

    async def metrics(self, _: Request) -> Response:
        text = metrics.exposition(self._view.status(), self._view.rounds(1))
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE, "cache-control": "no-store"})

    async def events(self, request: Request) -> Response:
        caller = _caller(request)
        if not self._watchers.take(caller):
            said = f"{MAX_WATCHERS} watchers are connected already, or {MAX_WATCHERS_OF_ONE} of your process"
            return problem("busy", said, "close one", status=503)
        stream = EventStream(
            "status",
            lambda: msgspec.json.encode(self._view.status()),
            self._view.changes(),
            stop=getattr(request.app.state, "stop", None),
        )
        return _Counted(stream, lambda: self._watchers.give_back(caller))

    async def stop(self, request: Request) -> Response:
        asked = await _body(request, answers.StopAsked)
        self._view.request_stop(asked.reason)
        return answer(answers.Stopping(), 202)

    async def generate(self, request: Request) -> Response:
        asked = await _body(request, answers.GenerateAsked)
        with self._job(request):
            texts = await self._view.generate(asked.prompt, asked.max_tokens, asked.temperature, asked.seed)
        return answer(msgspec.convert({"prompt": asked.prompt, **texts}, answers.Generated))

    async def export(self, request: Request) -> Response:
        asked = await _body(request, answers.ExportAsked)
        if not os.path.isabs(asked.folder) or "\0" in asked.folder:  # noqa: PTH117  # a string that no path is made of
            raise UsageError(
                f"folder: {asked.folder[:200]!r} is not a whole path", "the daemon stands in no folder of yours"
            )
        with self._job(request):
            found = await self._view.export(asked.folder, asked.which)
        return answer(found)

    async def test(self, request: Request) -> Response:
        with self._job(request):
            found = await self._view.test_losses()
        names = ("base", "own", "personal", "local", "served")
        losses = {name: bounded(found[name]) for name in names}  # JSON has no infinity
        return answer(msgspec.convert({**found, **losses}, answers.TestLosses))

    async def unban(self, request: Request) -> Response:
        asked = await _body(request, answers.UnbanAsked)
        if asked.peer_id not in {banned.peer_id for banned in self._view.status().banned}:
            raise UsageError(f"{asked.peer_id[:60]!r} is not banned", "who is: peerd peers")
        await self._view.lift_ban(PeerId(asked.peer_id))
        return answer(answers.Unbanned(peer_id=asked.peer_id))

    @contextlib.contextmanager
    def _job(self, request: Request) -> Iterator[None]:
        """Counted while it waits for the worker. Raises Busy."""
        caller = _caller(request)
        if not self._jobs.take(caller):
            said = f"{MAX_JOBS} jobs wait for the worker already, or {MAX_JOBS_OF_ONE} of your process"
            raise Busy(said, "wait until one has ended")
        try:
            yield
        finally:
            self._jobs.give_back(caller)


class _Counted(Response):
    """An event stream that is counted while it lasts."""

    def __init__(self, stream: EventStream, over: Callable[[], None]) -> None:
        self._stream, self._over = stream, over
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._stream(scope, receive, send)
        finally:
            self._over()


class NoBrowsers:
    """Refuses what only a browser would send: a page of somebody's must not talk to a daemon of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        headers = dict(scope["headers"])
        if b"origin" in headers or b"referer" in headers or headers.get(b"host") != HOST.encode():
            refusal = problem(
                "forbidden", "browsers are refused here", "open the page with: peerd dashboard", status=403
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def page(request: Request) -> Response:
    """The static files of the dashboard, from the installed package."""
    name = request.path_params.get("name", "index.html")
    folder = resources.files("peerd.control") / "web"
    if name not in {found.name for found in folder.iterdir() if found.is_file()}:
        return problem("not-found", f"there is no {name}", status=404)
    kind = MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
    return Response((folder / name).read_bytes(), media_type=kind, headers=PAGE_HEADERS)


def answer(data: Any, status: int = 200) -> Response:
    """A document as JSON."""
    return Response(
        msgspec.json.encode(data),
        status_code=status,
        media_type="application/json",
        headers={"x-peerd-version": __version__, "cache-control": "no-store"},
    )


def problem(code: str, message: str, hint: str = "", *, status: int) -> Response:
    """A failure as JSON."""
    return answer(answers.Failure(error=answers.Problem(code=code, message=message, hint=hint)), status)


async def bounded_body(request: Request, limit: int) -> bytes | None:
    """The body, None where it is longer or breaks off. It is counted: the length that is announced may be wrong."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return None
    except ClientDisconnect:  # nobody hears the answer
        return None
    return bytes(body)


def _caller(request: Request) -> int | None:
    """The process that asks, where the server knows."""
    found: int | None = request.scope.get("state", {}).get(CALLER)
    return found


def _last(request: Request) -> int:
    last = request.query_params.get("last", "1000")
    if not re.fullmatch("[0-9]{1,9}", last) or not 1 <= int(last) <= answers.MAX_ROUNDS:
        raise UsageError(f"last is a number from 1 to {answers.MAX_ROUNDS}")
    return int(last)


async def _body(request: Request, kind: type[Asked]) -> Asked:
    body = await bounded_body(request, MAX_BODY)
    if body is None:
        raise UsageError(f"a request has at most {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except UNREADABLE as error:
        raise UsageError(f"the request is not understood: {error}") from error


_HTTP_STATUS: Mapping[str, int] = {"usage": 400, "already-running": 409, "not-healthy": 503, "busy": 503}
Handler = Callable[[Request, Exception], Awaitable[Response]]


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, PeerdError)
    return problem(error.code, str(error), error.hint, status=_HTTP_STATUS.get(error.code, 500))


async def _theirs(_: Request, error: Exception) -> Response:
    assert isinstance(error, LearningError)
    return problem("usage", str(error), error.hint, status=400)


async def _unforeseen(_: Request, error: Exception) -> Response:
    """The daemon goes on; uvicorn logs the traceback."""
    return problem(
        "unforeseen", f"the daemon failed to answer: {described(error)}", "its log has more: peerd paths", status=500
    )


async def _unknown(request: Request, _: Exception) -> Response:
    return problem("not-found", f"there is no {request.scope['path']}", status=404)


async def _wrong_method(request: Request, _: Exception) -> Response:
    return problem("method", f"{request.scope['path']} does not take {request.method}", status=405)
