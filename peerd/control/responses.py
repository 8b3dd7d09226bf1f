"""What the interface sends back, and how much of a request it reads."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from peerd import __version__
from peerd.control.answers import Failure, Problem


def answer(data: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(data),
        status_code=status,
        media_type="application/json",
        headers={"x-peerd-version": __version__, "cache-control": "no-store"},
    )


def problem(code: str, message: str, hint: str = "", *, status: int) -> Response:
    return answer(Failure(error=Problem(code=code, message=message, hint=hint)), status)


async def bounded_body(request: Request, limit: int) -> bytes | None:
    """The body, None if it is longer or breaks off. It is counted: the length that is announced may be wrong."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                return None
    except ClientDisconnect:  # nobody hears the answer
        return None
    return bytes(body)
