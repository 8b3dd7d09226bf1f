"""What went wrong, as each of the two interfaces says it: OpenAI's below /v1/, Ollama's below /api/."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from peerd.errors import Busy, PeerdError, TooLong, UsageError

RETRY_SECONDS = 2  # what clients are told to wait if the daemon is away or busy
TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
TYPES |= {404: "not_found_error", 405: "invalid_request_error", 413: "invalid_request_error", 429: "rate_limit_error"}


def failed(path: str, status: int, said: str, *, code: str | None = None, param: str | None = None) -> Response:
    """An answer of the interface that this path belongs to."""
    headers = {"retry-after": str(RETRY_SECONDS)} if status in {429, 503} else {}
    if status == 401:
        headers = {"www-authenticate": "Bearer"}
        code = "invalid_api_key"
    body = in_words(said) if path.startswith("/api/") else problem(status, said, code=code, param=param)
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def refused(path: str, error: PeerdError) -> Response:
    """An error of ours; a daemon that is away, starting or without a worker is one that may be asked again."""
    said, status, code = told(error)
    return failed(path, status, said, code=code)


def told(error: PeerdError) -> tuple[str, int, str | None]:
    """Words, HTTP status and OpenAI's code."""
    said = f"{error}; {error.hint}" if error.hint else str(error)
    if isinstance(error, TooLong):
        return said, 400, "context_length_exceeded"
    if isinstance(error, UsageError):
        return said, 400, None
    return (said, 429, "busy") if isinstance(error, Busy) else (said, 503, error.code)


def problem(status: int, said: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """As OpenAI's clients read it."""
    kind = TYPES.get(status, "server_error")
    return {"error": {"message": said, "type": kind, "param": param, "code": code}}


def in_words(said: str) -> dict[str, Any]:
    """As Ollama's clients read it."""
    return {"error": said}
