"""`peerd dashboard`: a loopback proxy between one browser and the daemon's Unix socket, for as long as it runs.

    http://127.0.0.1:PORT/#token=...      the fragment never leaves the browser; the page swaps the token, once, for a
                                          session that it keeps to itself and sends in a header of its own

The session is no cookie: a browser sends cookies of 127.0.0.1 to every port of it (RFC 6265, section 8.5), so a
program on another port, one of another user included, would be handed it. What a page keeps in
`sessionStorage` is for its origin alone, and the port is a part of that.

It passes GET on to /v1/ and to the page's own files. Two things the page may ask besides, whose questions are made here
(`dashboard_asks`): a model to speak, and an export into the home's own folder. Nothing else: it cannot act. A request
for another host (DNS rebinding), from another page (Origin, Sec-Fetch-Site) or without the session is refused. The port
in `Host` may be another than ours: then it came through a tunnel (`ssh -L`), and its Origin names the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import signal
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2pfinetune.errors import UNREADABLE
from peerd.control import dashboard_asks
from peerd.control.answers import DashboardOpened
from peerd.control.api import HOST, page
from peerd.control.client import require_ours
from peerd.control.responses import answer, bounded_body, problem
from peerd.control.serve import loopback, serve_on
from peerd.errors import UsageError

TOKEN_BYTES = 32
MAX_WRONG_TOKENS = 10  # then the token is void: somebody is guessing
MAX_EXCHANGE_BODY = 1024  # bytes
WAIT_SECONDS = 20.0  # for the daemon's next byte; it sends a sign of life every 15 s
PASSED_ON = ("content-type", "cache-control", "x-peerd-version")
SESSION_HEADER = "x-peerd-session"  # another page may not send it: that takes a permission (CORS) that is never given
TUNNEL = "ssh -N -L {port}:127.0.0.1:{port} USER@THIS-MACHINE"
"""What brings the page to another machine; the first of the two ports may be any, then it stands in the address."""

GUARDED = ("/v1/", "/auth/", "/ask/")
POSTED = frozenset({"/auth/exchange", *dashboard_asks.ASKED})
Handler = Callable[[Request], Awaitable[Response]]

_OWN_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """One token, good once; one session after it."""

    def __init__(self, token: str, session: str) -> None:
        self._token: str | None = token
        self._session = session
        self._wrong = 0

    def exchange(self, offered: str) -> str | None:
        """The session for the token, the first time."""
        if self._token is None:
            return None
        if not secrets.compare_digest(offered.encode(), self._token.encode()):
            self._wrong += 1
            if self._wrong >= MAX_WRONG_TOKENS:
                self._token = None
            return None
        self._token = None
        return self._session

    def admits(self, session: str) -> bool:
        """Whether this is the browser that brought the token."""
        return secrets.compare_digest(session.encode(), self._session.encode())


class _Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /auth/exchange."""

    token: str


class _Admitted(msgspec.Struct, frozen=True):
    """The answer: what the page sends from now on."""

    session: str


def proxy(upstream: httpx.AsyncClient, port: int, gate: Gate, streams: set[httpx.Response]) -> Starlette:
    """The application that the browser talks to; `streams` holds the daemon's answers that are being passed on."""

    async def exchange(request: Request) -> Response:
        body = await bounded_body(request, MAX_EXCHANGE_BODY) or b""
        try:
            session = gate.exchange(msgspec.json.decode(body, type=_Offer).token)
        except UNREADABLE:
            return problem("usage", "a token is expected", status=400)
        if session is None:
            return problem("forbidden", "this link was used already", "type again: peerd dashboard", status=403)
        return answer(_Admitted(session=session))

    def admitted(handler: Handler) -> Handler:
        async def ask(request: Request) -> Response:
            if not gate.admits(request.headers.get(SESSION_HEADER, "")):
                return problem("forbidden", "this page has no session", "type: peerd dashboard", status=401)
            return await handler(request)

        return ask

    async def look(request: Request) -> Response:
        """The daemon's answer, streamed; nothing of the browser's request but the path goes there."""
        url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return await _passed_on(upstream.send(upstream.build_request("GET", url), stream=True), streams)

    async def ask(request: Request) -> Response:
        box = await dashboard_asks.wanted(request)
        return box if isinstance(box, Response) else await _passed_on(box.sent(upstream), streams)

    return Starlette(
        routes=[
            Route("/auth/exchange", exchange, methods=["POST"]),
            Route("/", page, methods=["GET"]),
            Route("/web/{name}", page, methods=["GET"]),
            Route("/v1/{rest:path}", admitted(look), methods=["GET"]),
            *(Route(path, admitted(ask), methods=["POST"]) for path in dashboard_asks.ASKED),
        ],
        middleware=[Middleware(OwnPageOnly, port=port)],
        exception_handlers={404: _not_here, 405: _only_looking},
    )


class OwnPageOnly:
    """Refuses other hosts, other pages and other methods, and sets the headers that keep the page to itself."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app, self._port = app, port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 or 405."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not _OWN_HOST.fullmatch(host):
            return problem("forbidden", "the dashboard is shown at 127.0.0.1 alone", _from_afar(self._port), status=403)
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return problem("forbidden", "other pages may not look", status=403)
        if (
            scope["path"].startswith(("/v1/", "/auth/", "/ask/"))
            and headers.get("sec-fetch-site", "none") not in _FRIENDLY
        ):
            return problem("forbidden", "other pages may not look", status=403)
        if scope["method"] != "GET" and not (scope["method"] == "POST" and scope["path"] in POSTED):
            return problem("method", "the dashboard only looks", status=405)
        if scope["method"] == "POST" and "origin" not in headers:  # a browser sends one, and it is our own
            return problem("forbidden", "this page is not the dashboard", status=403)
        return None


_FRIENDLY = {"same-origin", "none"}


def _from_afar(port: int) -> str:
    return f"from another machine: {TUNNEL.format(port=port)}   and open there: http://127.0.0.1:{port}/"


async def _passed_on(asked: Awaitable[httpx.Response], streams: set[httpx.Response]) -> Response:
    try:
        given = await asked
    except (httpx.HTTPError, *UNREADABLE):
        return problem("not-running", "the daemon does not answer", "start it with: peerd start", status=502)
    headers = {name: given.headers[name] for name in PASSED_ON if name in given.headers}
    return StreamingResponse(_chunks(given, streams), given.status_code, headers)


async def _chunks(given: httpx.Response, streams: set[httpx.Response]) -> AsyncIterator[bytes]:
    streams.add(given)
    try:
        async for chunk in given.aiter_bytes():
            yield chunk
            await asyncio.sleep(0)  # what lies here already would be sent in one go to a browser that has just gone
    except (httpx.HTTPError, httpx.StreamError):
        return  # the daemon ended, or we do; the page sees its stream end and asks again
    finally:
        streams.discard(given)
        await given.aclose()


async def _hang_up(stop: asyncio.Event, streams: set[httpx.Response]) -> None:
    """Event streams would go on for ever: end them when we end."""
    await stop.wait()
    for given in list(streams):
        await given.aclose()


async def _not_here(request: Request, _: Exception) -> Response:
    return problem("not-found", f"there is no {request.url.path}", status=404)


async def _only_looking(_: Request, __: Exception) -> Response:
    return problem("method", "the dashboard only looks", status=405)


def run(
    socket_path: Path,
    *,
    port: int,
    browse: bool,
    opened: Callable[[DashboardOpened], None],
) -> None:
    """Serve until Ctrl-C or SIGTERM. `opened` is told the address once it can be used."""
    asyncio.run(_run(socket_path, port, browse, opened))


async def _run(socket_path: Path, port: int, browse: bool, opened: Callable[[DashboardOpened], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with contextlib.ExitStack() as stack:
        await serve_dashboard(socket_path, port, stop, lambda data: _tell(data, browse, opened, stack))


async def serve_dashboard(
    socket_path: Path, port: int, stop: asyncio.Event, opened: Callable[[DashboardOpened], None]
) -> None:
    """Serve until `stop`. Raises UsageError if the port is taken."""
    require_ours(socket_path)
    try:
        listener = loopback(port)
    except OSError as error:
        hint = "choose another with --port, or leave it out"
        raise UsageError(f"--port: cannot use port {port}: {error.strerror}", hint) from error
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(TOKEN_BYTES)
    gate = Gate(token, secrets.token_urlsafe(TOKEN_BYTES))
    url = f"http://127.0.0.1:{port}/#token={token}"
    transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
    timeout = httpx.Timeout(WAIT_SECONDS)
    async with httpx.AsyncClient(
        transport=transport, base_url=f"http://{HOST}", timeout=timeout, trust_env=False
    ) as upstream:
        streams: set[httpx.Response] = set()
        app = proxy(upstream, port, gate, streams)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_hang_up(stop, streams), name="end of event streams")
            await serve_on(listener, app, stop, ready=lambda: opened(DashboardOpened(url=url, port=port)))


def _tell(
    data: DashboardOpened, browse: bool, opened: Callable[[DashboardOpened], None], stack: contextlib.ExitStack
) -> None:
    opened(data)
    if browse:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peerd-")))
        file = _redirect(folder, data.url)
        # A thread of its own: a text browser stays until it is left, and needs us meanwhile.
        threading.Thread(target=webbrowser.open, args=(file.as_uri(),), name="browser", daemon=True).start()


def _redirect(folder: Path, url: str) -> Path:
    """A file that only we can read and that leads to the address: a command line would show the token to everyone."""
    file = folder / "dashboard.html"
    file.touch(mode=0o600)
    file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">dashboard</a>')
    return file
