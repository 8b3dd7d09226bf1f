"""The process of `peerd serve`, from its port or socket to Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from peerd.control import serve as http
from peerd.control.door import Door, as_it_is
from peerd.control.places import Place
from peerd.errors import UsageError
from peerd.machine.boundary import described
from peerd.machine.paths import Paths
from peerd.serving import ollama, openai
from peerd.serving.failures import failed
from peerd.serving.gate import OPEN_TO_ALL, OwnUserOnly, ServingGate
from peerd.serving.upstream import AskedDaemon, Upstream

HERE = "peerd serve: OpenAI's interface is at /v1, Ollama's at /api\n"


def application(daemon: AskedDaemon, key: str | None, *, is_loopback: bool) -> Starlette:
    """Both interfaces behind the gate; `key` None: none is needed."""
    return Starlette(
        routes=[Route(OPEN_TO_ALL, _here, methods=["GET"]), *openai.routes(daemon), *ollama.routes(daemon)],
        middleware=[Middleware(ServingGate, key=key, is_loopback=is_loopback)],
        exception_handlers={404: _unknown, 405: _wrong_method, Exception: _unforeseen},
    )


async def _here(_: Request) -> Response:
    return PlainTextResponse(HERE)


async def _unknown(request: Request, _: Exception) -> Response:
    path = request.scope["path"]
    return failed(path, 404, f"there is no {path[:200]} here")


async def _wrong_method(request: Request, _: Exception) -> Response:
    path = request.scope["path"]
    return failed(path, 405, f"{path[:200]} does not take {request.method[:20]}")


async def _unforeseen(request: Request, error: Exception) -> Response:
    """The traceback goes to the log of uvicorn."""
    return failed(request.scope["path"], 500, f"this failed here: {described(error)}")


def run(paths: Paths, *, port: int, socket: Path | None, key: str | None, opened: Callable[[int], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `opened` is told the port (0: a socket) once it can be used.

    Raises UsageError if the port is taken, PeerdError if the socket is.
    """
    asyncio.run(_run(paths, port, socket, key, opened))


async def _run(paths: Paths, port: int, socket: Path | None, key: str | None, opened: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(paths, stop, port=port, socket=socket, key=key, opened=opened)


async def serve(
    paths: Paths, stop: asyncio.Event, *, port: int, socket: Path | None, key: str | None, opened: Callable[[int], None]
) -> None:
    """Until `stop`; for `run`."""
    daemon = Upstream(paths)
    try:
        if socket is not None:
            app = application(daemon, None, is_loopback=False)
            await http.serve(app, Door(socket, prepare=as_it_is), stop, ready=lambda: opened(0))
            return
        try:
            listener = http.loopback(port)
        except OSError as error:
            hint = "choose another with --port; is another `peerd serve` running?"
            raise UsageError(f"--port: cannot use port {port}: {error.strerror}", hint) from error
        bound = listener.getsockname()[1]
        app = application(daemon, key, is_loopback=True)
        place = Place if key is not None else OwnUserOnly
        await http.serve_on(listener, app, stop, http=place, ready=lambda: opened(bound))
    finally:
        await daemon.close()
