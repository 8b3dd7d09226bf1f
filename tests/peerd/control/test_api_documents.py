"""The interface over its real socket, asked with the plainest of HTTP clients."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peerd.control.handlers import MAX_BODY
from peerd.control.verbs import VERBS, Verb


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("peerd", timeout=20)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20)
        self.sock.connect(str(self.path))


def ask(
    daemon: Any, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = Connection(daemon.paths.socket)
    connection.request(method, path, body, {"Host": "peerd", **(headers or {})})
    response = connection.getresponse()
    found = response.read()
    connection.close()
    kind = response.getheader("content-type")
    return response.status, json.loads(found) if kind == "application/json" else (kind, found)


@pytest.mark.parametrize(
    "verb",
    [verb for verb in VERBS if verb.method == "GET" and verb.answer is not str and not verb.is_stream],
    ids=lambda verb: verb.name,
)
def test_every_question_is_answered_in_its_type(daemon: Any, verb: Verb[Any, Any]) -> None:
    status, found = ask(daemon, "GET", verb.path)

    assert status == 200
    assert msgspec.convert(found, verb.answer) is not None


def test_trust_tells_the_row_its_history_and_what_it_rests_on(daemon: Any) -> None:
    _, found = ask(daemon, "GET", "/v1/trust")
    me, bob, eve = found["row"]

    assert (me["is_me"], bob["name"], eve["name"]) == (True, "bob", "eve")
    assert sum(peer["weight"] for peer in found["row"]) == pytest.approx(1)
    assert [point["round"] for point in bob["history"]] == list(range(1, 13))
    assert bob["history"][-1]["weight"] == bob["weight"]
    assert eve["refused"] == {"norm": 2, "stale": 1}
    assert found["measured"]


def test_rounds_are_the_last_ones_oldest_first(daemon: Any) -> None:
    _, found = ask(daemon, "GET", "/v1/rounds?last=3")

    assert [record["round"] for record in found["rounds"]] == [10, 11, 12]


@pytest.mark.parametrize("last", ["0", "-1", "many", "10001", "9" * 5000, "000000001" + "9" * 5000, "²"])
def test_a_wrong_number_of_rounds_is_a_usage_error(daemon: Any, last: str) -> None:
    from urllib.parse import quote

    status, found = ask(daemon, "GET", f"/v1/rounds?last={quote(last)}")

    assert (status, found["error"]["code"]) == (400, "usage")


def test_health_is_503_with_reasons_when_the_daemon_is_not_well(daemon: Any, view: Any) -> None:
    view.broken = "no accepted update for an hour: look at peerd peers"

    assert ask(daemon, "GET", "/v1/health") == (503, {"ok": False, "reasons": [view.broken]})


def test_generating_and_exporting_reach_the_worker(daemon: Any, view: Any) -> None:
    status, found = ask(daemon, "POST", "/v1/generate", b'{"prompt": "hi", "max_tokens": 3, "seed": 7}')
    exported, files = ask(daemon, "POST", "/v1/export", b'{"folder": "/x"}')
    asked, _ = ask(daemon, "POST", "/v1/export", b'{"folder": "/y", "which": "local"}')

    assert (status, found["own"], found["personal"]) == (200, "hi own 7", "hi personal 3")
    assert (exported, files["folder"], asked, view.exported) == (200, "/x", 200, ["/x", "/y"])
    assert view.exported_models == ["served", "local"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"prompt": 5}',
        b'{"prompt": "a", "unknown": 1}',
        b'{"prompt": "a", "max_tokens": 0}',
        b'{"prompt": "a", "max_tokens": 1000000}',
        b'{"prompt": "a", "temperature": -1}',
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "' + b"a" * (MAX_BODY + 1) + b'"}',
        b'{"prompt": "' + b"a" * 40_000 + b'"}',
        b"[" * 100_000,
        b'{"prompt": "\xff"}',
    ],
)
def test_a_request_that_is_not_understood_is_refused(daemon: Any, body: bytes) -> None:
    status, found = ask(daemon, "POST", "/v1/generate", body)

    assert (status, found["error"]["code"]) == (400, "usage")


def test_a_failure_of_the_worker_is_told_with_its_advice(daemon: Any) -> None:
    status, found = ask(daemon, "POST", "/v1/generate", b'{"prompt": "fail"}')

    assert status == 500
    assert found["error"] == {
        "code": "worker",
        "message": "the worker ran out of memory",
        "hint": "stop other programs",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://example.org"},
        {"Origin": "null"},
        {"Referer": "http://127.0.0.1:8088/"},
        {"Host": "example.org"},
        {"Host": "localhost"},
        {"Host": "peerd:80"},
        {"Host": ""},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/status"), ("POST", "/v1/stop"), ("GET", "/")])
def test_what_only_a_browser_would_send_is_refused(
    daemon: Any, view: Any, headers: dict[str, str], method: str, path: str
) -> None:
    status, _ = ask(daemon, method, path, b"{}" if method == "POST" else None, headers)

    assert status == 403
    assert view.stop_reasons == []


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("POST", "/v1/status", 405)])
def test_wrong_paths_and_methods_are_told_as_documents(daemon: Any, method: str, path: str, status: int) -> None:
    found, document = ask(daemon, method, path)

    assert (found, bool(document["error"]["message"])) == (status, True)


def test_the_page_is_served_and_nothing_outside_its_folder(daemon: Any) -> None:
    status, (kind, page) = ask(daemon, "GET", "/")

    assert (status, kind) == (200, "text/html; charset=utf-8")
    for name in re.findall(rb'(?:src|href)="/web/([^"]+)"', page):
        assert ask(daemon, "GET", f"/web/{name.decode()}")[0] == 200
    for name in ("../api.py", "..%2fapi.py", "%2e%2e/api.py", ".", "", "__init__.py"):
        assert ask(daemon, "GET", f"/web/{name}")[0] == 404


def test_the_page_holds_no_inline_code_and_no_foreign_address(daemon: Any) -> None:
    _, (_, page) = ask(daemon, "GET", "/")
    files = [
        ask(daemon, "GET", f"/web/{name}")[1][1] for name in ("app.js", "draw.js", "chart.js", "format.js", "style.css")
    ]

    assert not re.search(rb"<style|<script(?![^>]*src=)|\sstyle=|\son\w+=", page)
    for text in (page, *files):
        assert not re.search(
            rb"innerHTML|insertAdjacentHTML|document\.write|eval\(", text.replace(b"never innerHTML", b"")
        )
        assert set(re.findall(rb"https?://[^\s\"'`]+", text)) <= {b"http://www.w3.org/2000/svg"}


def test_a_huge_header_is_refused_without_reading_on(daemon: Any) -> None:
    connection = Connection(daemon.paths.socket)
    connection.connect()
    connection.sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: peerd\r\nX: " + b"a" * 100_000)

    assert b"400" in connection.sock.recv(200).split(b"\r\n")[0]
    connection.close()


def test_stopping_is_heard(daemon: Any, view: Any) -> None:
    assert ask(daemon, "POST", "/v1/stop", b'{"reason": "enough"}') == (202, {"stopping": True})
    assert view.stop_reasons == ["enough"]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/v1/generate", b'{"prompt": "x", "seed": 99999999999999999999}', "seed"),
        ("/v1/generate", b'{"prompt": "x", "seed": -99999999999999999999}', "seed"),
        ("/v1/generate", b'{"prompt": "x", "temperature": 1e400}', "temperature"),
        ("/v1/generate", b'{"prompt": "x", "max_tokens": 1e300}', "max_tokens"),
        ("/v1/export", b'{"folder": "adapter"}', "folder"),
        ("/v1/export", b'{"folder": ""}', "folder"),
        ("/v1/export", b'{"folder": "/tmp/\\u0000"}', "folder"),
        ("/v1/export", b'{"folder": "./a"}', "folder"),
    ],
)
def test_a_field_out_of_bounds_is_bad_usage_that_names_it(
    daemon: Any, view: Any, path: str, body: bytes, named: str
) -> None:
    connection = Connection(daemon.paths.socket)
    connection.request("POST", path, body)
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()

    assert (answer.status, error["code"]) == (400, "usage")
    assert named in error["message"]
    assert view.exported == []
