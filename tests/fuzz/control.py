"""Target: requests to the control interface. Whatever is asked, the answer is a document or a reason; never a 500.

The bytes are a request as people read it: a line of method and path, lines of headers, an empty line, the body. The
server in front is stricter; the application must not depend on that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import unquote

from peerd.control.api import application
from peerd.control.handlers import MAX_BODY
from peerd.control.verbs import VERBS
from tests.fuzz import mutate
from tests.fuzz.target import Target
from tests.support.view import FakeView

VIEW = FakeView(rounds=3)
APPLICATION = application(VIEW)
PATIENCE_SECONDS = 60.0
CHUNK = 4096
BODIES = {
    "/v1/stop": {"reason": "enough"},
    "/v1/generate": {"prompt": "Once", "max_tokens": 3, "temperature": 0.5, "seed": 1},
    "/v1/export": {"folder": "/somewhere"},
    "/v1/test": {},
    "/v1/unban": {"peer_id": "12D3KooW"},
}
NAMES = sorted({name for body in BODIES.values() for name in body})
WORDS = [b"content-length: ", b"transfer-encoding: chunked", b"host: peerd", b"origin: null", b"?last=", b"%00", b"%2e%2e/",
         b"\xc2\xb2", b"\xb2", b"HEAD ", b"POST ", b"GET ", b"OPTIONS ", b"/v1/", b"/web/", b"\n\n", b'"\xff"', b"[" * 900,
         *(verb.path.encode() for verb in VERBS)]  # fmt: skip


def run_control(data: bytes) -> None:
    """One request, answered."""
    head, _, body = data.partition(b"\n\n")
    line, *fields = head.split(b"\n")
    method, _, target = line.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (field.partition(b":") for field in fields)]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "root_path": "",
        "method": method.decode("latin-1").upper(), "path": unquote(path.decode("latin-1")), "raw_path": path,
        "query_string": query, "headers": headers, "client": None, "server": ("peerd", None), "state": {},
    }  # fmt: skip
    VIEW.stop_reasons.clear()
    VIEW.exported.clear()
    status, answer, taken = asyncio.run(_answered(scope, body))
    assert 200 <= status < 500, (status, answer[:200])
    assert taken <= MAX_BODY + CHUNK
    if status >= 400 and method != b"HEAD" and b"error" in answer[:16]:
        assert json.loads(answer)["error"]["message"]
    if VIEW.stop_reasons or VIEW.exported:
        assert method.upper() == b"POST"
        assert dict(headers)[b"host"] == b"peerd"
        assert b"origin" not in dict(headers)


async def _answered(scope: dict[str, Any], body: bytes) -> tuple[int, bytes, int]:
    """Status and body of the answer, and how much of the request was taken; then the asker hangs up."""
    statuses, parts, taken = [], [], 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        if taken > len(body):
            return {"type": "http.disconnect"}
        part = body[taken : taken + CHUNK]
        taken += max(1, len(part)) if len(part) == CHUNK else len(body) - taken + 1
        return {"type": "http.request", "body": part, "more_body": len(part) == CHUNK}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        else:
            parts.append(message.get("body", b""))

    async with asyncio.timeout(PATIENCE_SECONDS):
        await APPLICATION(scope, receive, send)
    (status,) = statuses
    return status, b"".join(parts), min(taken, len(body))


def request(line: str, body: Any = None, *headers: str) -> bytes:
    """A request as it should be."""
    text = b"" if body is None else json.dumps(body).encode()
    fields = [line, "host: peerd", *([] if body is None else [f"content-length: {len(text)}"]), *headers]
    return "\n".join(fields).encode() + b"\n\n" + text


def control_seeds() -> Iterator[bytes]:
    """Every endpoint, and what must be refused."""
    for endpoint in (f"{verb.method} {verb.path}" for verb in VERBS):
        yield request(endpoint, BODIES.get(endpoint.partition(" ")[2]))
    for query in ("last=3", "last=0", "last=%C2%B2", "last=1&last=2", "last=" + "9" * 5000):
        yield request(f"GET /v1/rounds?{query}")
    for line in ("GET /", "GET /web/app.js", "GET /web/..%2fapi.py", "GET /nowhere", "DELETE /v1/stop", "GET /v1/stop"):
        yield request(line)
    yield request("GET /v1/status", None, "origin: null")
    yield request("GET /v1/status").replace(b"host: peerd", b"host: localhost")
    yield b"GET /v1/id/?\xe1\nhost: peerd\n\n"
    yield b"GET /nowhere?\xe1\nhost: peerd\n\n"
    for length in (b"\xb2", b"-1", b"9" * 5000, b"", b"300000"):
        yield b"POST /v1/stop\nhost: peerd\ncontent-length: " + length + b"\n\n{}"
    for body in (b'{"reason": "\xff"}', b"[" * 3000, b'{"reason": NaN}', b'{"reason": "\\ud800"}', b"9" * 5000):
        yield b"POST /v1/stop\nhost: peerd\ncontent-length: 9\n\n" + body


def mutate_request(data: bytes, dice: Random) -> bytes:
    """The head as text, or the body as JSON, its length told anew."""
    head, empty, body = data.partition(b"\n\n")
    if dice.random() < 0.5 or not empty:
        return _HEAD(head, dice) + empty + body
    body = _BODY(body, dice)
    lines = [line for line in head.split(b"\n") if not line.startswith(b"content-length")]
    return b"\n".join([*lines, b"content-length: %d" % len(body)]) + b"\n\n" + body


_HEAD, _BODY = mutate.plain(WORDS), mutate.json_trees(NAMES)

TARGETS = (
    Target(
        name="control-api", run=run_control, seeds=control_seeds, max_bytes=8192, mutate=mutate_request, words=WORDS
    ),
)  # fmt: skip
