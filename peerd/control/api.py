"""The daemon's HTTP interface: typed documents over the Unix socket. Answers questions, decides nothing.

Which questions there are stands in `peerd.control.verbs`, how each is answered in `peerd.control.handlers`; here they
become routes.

The socket is open to the user alone, and still a page in that user's browser must not reach it: browsers speak for
whoever wrote the page (cross-site request forgery, DNS rebinding). A browser cannot reach it directly: requests that
carry Origin or Referer, or name another host than `peerd`, are refused; the loopback proxy of `peerd dashboard` speaks
for the page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from p2pfinetune.errors import LearningError
from peerd.control.handlers import HANDLERS, Call, Callers, DaemonView, Handler, question_of
from peerd.control.responses import answer, problem, refused
from peerd.control.verbs import VERBS, Verb
from peerd.errors import PeerdError
from peerd.machine.boundary import described

HOST = "peerd"
"""What requests must name as their host: `curl --unix-socket SOCKET http://peerd/v1/status`."""

MEDIA_TYPES = {  # the system's table may know better, and be wrong: a browser runs no module of type text/plain
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE_HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}


def application(
    view: DaemonView, verbs: Sequence[Verb[Any, Any]] = VERBS, handlers: Mapping[str, Handler] = HANDLERS
) -> Starlette:
    """The interface as an application for `peerd.control.serve.serve`."""
    pages = [Route(path, page, methods=["GET"]) for path in ("/", "/web/{name}")]
    app = Starlette(
        routes=[*routes(view, verbs, handlers), *pages],
        middleware=[Middleware(NoBrowsers)],
        exception_handlers={
            PeerdError: _ours,
            LearningError: _ours,
            404: _unknown,
            405: _wrong_method,
            Exception: _unforeseen,
        },
    )
    app.router.redirect_slashes = False  # there is one spelling of a path; and it fails at a query that is no UTF-8
    return app


def routes(view: DaemonView, verbs: Sequence[Verb[Any, Any]], handlers: Mapping[str, Handler]) -> list[Route]:
    """One a verb. Raises LookupError if a verb has no handler, or a handler no verb."""
    if alone := {verb.name for verb in verbs} ^ handlers.keys():
        raise LookupError(f"a verb without a handler, or a handler without a verb: {', '.join(sorted(alone))}")
    callers = Callers()
    return [
        Route(verb.path, _endpoint(verb, handlers[verb.name], view, callers), methods=[verb.method]) for verb in verbs
    ]


def _endpoint(
    verb: Verb[Any, Any], handler: Handler, view: DaemonView, callers: Callers
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = Call(await question_of(verb, request), view, callers, request)
        found = await handler(call)
        return found if isinstance(found, Response) else answer(found)

    return endpoint


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


async def _ours(_: Request, error: Exception) -> Response:
    assert isinstance(error, PeerdError | LearningError)
    return refused(error)


async def _unforeseen(_: Request, error: Exception) -> Response:
    """The daemon goes on; uvicorn logs the traceback."""
    return problem(
        "unforeseen", f"the daemon failed to answer: {described(error)}", "its log has more: peerd paths", status=500
    )


async def _unknown(request: Request, _: Exception) -> Response:
    return problem("not-found", f"there is no {request.scope['path']}", status=404)


async def _wrong_method(request: Request, _: Exception) -> Response:
    return problem("method", f"{request.scope['path']} does not take {request.method}", status=405)
