"""The daemon as `peerd serve` asks it, and a client that may leave while it waits.

A question is asked on a connection of its own: whoever leaves closes it, and with it ends the answer in the worker. The
daemon may come, go and come back with another socket; each question looks for it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from p2pfinetune.speech import Begun, Chance, Ended, Piece, Said
from peerd.control.client import AsyncClient, find_socket
from peerd.control.event_stream import Gone, until_gone
from peerd.control.questions import RespondQuestion
from peerd.errors import PeerdError, WorkerError
from peerd.machine.paths import Paths
from peerd.status import Status

Given = TypeVar("Given")


class AskedDaemon(Protocol):
    """What is asked of it."""

    async def status(self) -> Status:
        """Raises PeerdError."""
        ...

    def said(self, question: RespondQuestion) -> AsyncGenerator[Said, None]:
        """Raises PeerdError."""
        ...


class Upstream:
    """The daemon of one home, wherever its socket is now."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._clients: dict[Path, AsyncClient] = {}

    async def status(self) -> Status:
        return await self._client().status()

    def said(self, question: RespondQuestion) -> AsyncGenerator[Said, None]:
        return self._client().said(question)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def _client(self) -> AsyncClient:
        at = find_socket(self._paths)
        if at not in self._clients:
            self._clients[at] = AsyncClient(self._paths.home, socket_path=at)
        return self._clients[at]


class ClientGone(Exception):  # nobody's mistake
    """Who asked has left; nobody reads an answer."""


@dataclass(frozen=True, slots=True)
class BegunAnswer:
    """An answer that has begun; `rest` is what follows."""

    begun: Begun
    rest: AsyncGenerator[Said, None]


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer at its end."""

    text: str
    chances: tuple[Chance, ...]
    ended: Ended


async def answering(request: Request, daemon: AskedDaemon, question: RespondQuestion) -> BegunAnswer:
    """Once the worker has begun. Raises PeerdError for what it refuses, ClientGone."""
    said = daemon.said(question)
    first = await unless_gone(request, anext(said))
    assert isinstance(first, Begun)
    return BegunAnswer(first, said)


async def whole(request: Request, answer: BegunAnswer) -> Whole:
    """Once it has ended. Raises PeerdError if it breaks off, ClientGone."""
    return await unless_gone(request, _gathered(answer))


async def _gathered(answer: BegunAnswer) -> Whole:
    pieces: list[Piece] = []
    async with aclosing(answer.rest) as rest:
        async for said in rest:
            if isinstance(said, Piece):
                pieces.append(said)
            if isinstance(said, Ended):
                chances = tuple(chance for piece in pieces for chance in piece.chances)
                return Whole("".join(piece.text for piece in pieces), chances, said)
    raise WorkerError("the answer broke off", "ask again")


async def unless_gone(request: Request, work: Awaitable[Given]) -> Given:
    """What the work gives. Raises ClientGone, with the work ended, once the request's client has left."""
    outcome: list[Given | PeerdError] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(until_gone(request.receive), name="client of an answer gone")
            try:
                outcome.append(await work)
            except PeerdError as error:
                outcome.append(error)
            leaving.cancel()
    except* Gone:
        pass
    if not outcome:
        raise ClientGone
    (found,) = outcome
    if isinstance(found, PeerdError):
        raise found
    return found


class Streamed(Response):
    """Bytes as they come; their source is closed with the answer, however that ends."""

    def __init__(self, chunks: AsyncGenerator[bytes, None], media_type: str) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        self._chunks, self._inner = chunks, StreamingResponse(chunks, 200, headers, media_type)
        self.background: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._inner(scope, receive, send)
        finally:
            await self._chunks.aclose()


class Nobody(Response):
    """The answer to a client that has left."""

    def __init__(self) -> None:
        self.background: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing is sent; the connection is closed already."""
