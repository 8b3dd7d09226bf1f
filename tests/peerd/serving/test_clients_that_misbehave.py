"""Clients of `peerd serve` that leave, do not read, or send what is no request."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

FOREVER = {"model": "base", "messages": [{"role": "user", "content": "forever"}], "max_tokens": 4096}


def connected(served: Any, path: str, document: Any) -> socket.socket:
    """A client that has asked and has read nothing."""
    body = json.dumps(document).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.key}\r\n"
    line = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return line


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_ends_the_answer_in_the_worker(served: Any, path: str, stream: bool) -> None:
    with connected(served, path, {**FOREVER, "stream": stream}) as line:
        heard = b""
        while stream and b"forever" not in heard:
            more = line.recv(4096)
            assert more, "the answer ended"
            heard += more
        assert served.until(lambda: len(served.view.responses) == 1)

    assert served.until(lambda: len(served.view.cancelled) == 1)


def test_more_than_may_ask_at_once_are_told_to_come_again(served: Any) -> None:
    lines = [connected(served, "/v1/chat/completions", FOREVER) for _ in range(16)]
    assert served.until(lambda: len(served.view.responses) == 16)
    status, headers, found = served.ask("POST", "/v1/chat/completions", FOREVER)
    for line in lines:
        line.close()

    assert (status, headers["retry-after"], found["error"]["type"]) == (429, "2", "rate_limit_error")
    assert served.until(lambda: len(served.view.cancelled) == 16)
    assert served.ask("GET", "/v1/models")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": 5}',
        b'{"model": "base"}',
        b'{"model": "base", "messages": "hi"}',
        b'{"model": "base", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "base", "messages": ' + b"[" * 100_000,
        b'{"model": "base", "x": ' + b"[" * 100_000,
        b'{"model": "base", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b" " * 600_000,
    ],
)
def test_what_is_no_request_is_bad_usage(served: Any, body: bytes) -> None:
    status, _, found = served.ask("POST", "/v1/chat/completions", body)
    ollama, _, said = served.ask("POST", "/api/chat", body)

    assert (status, found["error"]["type"]) == (400, "invalid_request_error")
    assert (ollama, "error" in said) == (400, True) or body == b'{"model": "base"}'  # there it asks for the model alone
    assert served.view.responses == []


@pytest.mark.parametrize("headers", ["X: " + "x" * 100_000, "\r\n".join(f"X-{n}: 1" for n in range(50_000))])
def test_a_flood_of_headers_is_cut_and_others_are_answered(served: Any, headers: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as line:
        try:
            line.sendall(f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode())
            first = line.recv(12)
        except ConnectionError:
            first = b""

    assert first == b"" or b" 40" in first
    assert served.ask("GET", "/v1/models")[0] == 200
