"""What the interface sends back, and how much of a request it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from p2pfinetune.errors import LearningError
from peerd import __version__
from peerd.control.answers import Failure, Problem
from peerd.errors import PeerdError


def answer(data: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(data),
        status_code=status,
        media_type="application/json",
        headers={"x-peerd-version": __version__, "cache-control": "no-store"},
    )


def problem(code: str, message: str, hint: str = "", *, status: int) -> Response:
    return answer(Failure(error=Problem(code=code, message=message, hint=hint)), status)


HTTP_STATUS: Mapping[str, int] = {
    "usage": 400,
    "too-long": 400,
    "already-running": 409,
    "not-running": 503,
    "not-healthy": 503,
    "busy": 503,
}


def problem_of(error: PeerdError | LearningError) -> Problem:
    """An error of ours as it is told; what the library raises is of the user's making."""
    code = error.code if isinstance(error, PeerdError) else "usage"
    return Problem(code=code, message=str(error), hint=error.hint)


def refused(error: PeerdError | LearningError) -> Response:
    found = problem_of(error)
    return answer(Failure(error=found), HTTP_STATUS.get(found.code, 500))


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
