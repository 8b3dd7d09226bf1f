"""What a hostile page, a stranger on this machine or a curious proxy could try on the dashboard's loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from peerd.control.dashboard_proxy import MAX_WRONG_TOKENS, SESSION_HEADER, TUNNEL, Gate, serve_dashboard
from peerd.control.places import MAX_CONNECTIONS
from peerd.errors import UsageError
from peerd.machine.paths import Paths
from tests.linkfaults.forwarder import Forwarder
from tests.support.view import Daemon, FakeView

ROOT = Path(__file__).parents[3]


class Page:
    """A running dashboard, asked with bare HTTP."""

    def __init__(self, url: str) -> None:
        self.port = urlsplit(url).port
        self.token = urlsplit(url).fragment.removeprefix("token=")
        self.session = ""

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        sent = {"Host": f"127.0.0.1:{self.port}", **self.right}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {name: value for name, value in sent.items() if value is not None})
        response = connection.getresponse()
        found = response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, found

    @property
    def right(self) -> dict[str, str]:
        return {SESSION_HEADER: self.session} if self.session else {}

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def exchange(self, token: str | None = None, **headers: str | None) -> int:
        body = json.dumps({"token": self.token if token is None else token}).encode()
        status, self.headers, given = self.ask("POST", "/auth/exchange", body, **{"Origin": self.origin, **headers})
        if status == 200:
            self.session = json.loads(given)["session"]
        return status


@pytest.fixture(scope="module")
def view() -> FakeView:
    return FakeView(rounds=12)


@pytest.fixture(scope="module")
def daemon(view: FakeView) -> Iterator[Daemon]:
    """One for all of them, but for the one that has to go."""
    with tempfile.TemporaryDirectory(prefix="pd-") as folder, Daemon(Paths.of(Path(folder) / "home"), view) as running:
        yield running


@pytest.fixture
def page(daemon: Daemon) -> Iterator[Page]:
    with page_of(daemon) as found:
        yield found


@contextlib.contextmanager
def page_of(daemon: Daemon) -> Iterator[Page]:
    opened: list[str] = []
    up, loops = threading.Event(), []

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))

        def tell(data: Any) -> None:
            opened.append(data.url)
            up.set()

        await serve_dashboard(daemon.paths.socket, 0, stop, tell)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert up.wait(20)
    loop, stop = loops[0]
    found = Page(opened[0])
    found.end = lambda: loop.is_closed() or loop.call_soon_threadsafe(stop.set)
    yield found
    found.end()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def gone(home: Path) -> Iterator[Page]:
    """A page that was opened, and whose daemon has ended since."""
    with Daemon(Paths.of(home), FakeView(rounds=12)) as running, page_of(running) as found:
        assert found.exchange() == 200
        running.call(running.view.stop.set)
        running._thread.join(20)
        yield found


@pytest.fixture
def opened(page: Page) -> Page:
    assert page.exchange() == 200
    return page


def test_the_link_opens_the_page_for_one_browser(page: Page) -> None:
    before = page.ask("GET", "/v1/status")[0]
    exchanged = page.exchange()
    status, _, body = page.ask("GET", "/v1/status")

    assert (before, exchanged, status) == (401, 200, 200)
    assert json.loads(body)["name"] == "alice"


def test_a_browser_is_given_nothing_that_it_would_send_to_another_port(page: Page) -> None:
    page.exchange()
    answers = [page.headers, *(page.ask("GET", path)[1] for path in ("/", "/web/session.js", "/v1/status"))]

    assert not any("set-cookie" in headers for headers in answers)
    assert page.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("where", ["Cookie", "Authorization", "Referer"])
def test_the_session_counts_in_its_own_header_alone(opened: Page, where: str) -> None:
    session, opened.session = opened.session, ""
    sent = {"Cookie": f"peerd_{opened.port}={session}; x-peerd-session={session}"}.get(where, session)

    assert opened.ask("GET", "/v1/status", **{where: sent})[0] == 401


def test_the_token_works_once(opened: Page) -> None:
    assert opened.exchange() == 403


@pytest.mark.parametrize("token", ["", "x", "x" * 43, "é"])
def test_a_wrong_token_opens_nothing(page: Page, token: str) -> None:
    assert page.exchange(token) == 403
    assert page.session == ""


def test_guessing_voids_the_token(page: Page) -> None:
    for _ in range(MAX_WRONG_TOKENS):
        assert page.exchange("wrong") == 403

    assert page.exchange() == 403


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b'{"token": 5}', b'{"token": "a", "more": 1}', b"x" * 100_000])
def test_a_token_that_is_none_is_refused(page: Page, body: bytes) -> None:
    assert page.ask("POST", "/auth/exchange", body, Origin=page.origin)[0] == 400
    assert page.exchange() == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://example.org",
        "null",
        "http://127.0.0.1",
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:{port}.example.org",
        None,
    ],
)
def test_a_token_from_another_page_is_refused(page: Page, origin: str | None) -> None:
    assert page.exchange(Origin=origin.format(port=page.port) if origin else None) == 403
    assert page.exchange() == 200


@pytest.mark.parametrize("path", ["/v1/status", "/v1/events", "/v1/panels", "/v1/nothing"])
def test_nothing_of_the_daemon_is_seen_without_the_session(page: Page, path: str) -> None:
    assert page.ask("GET", path)[0] == 401
    assert page.ask("GET", path, X_Peerd_Session="guess")[0] == 401


@pytest.mark.parametrize("origin", ["http://example.org", "null", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused_even_with_the_session(opened: Page, origin: str) -> None:
    assert opened.ask("GET", "/v1/status", Origin=origin)[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "example.org:{port}",
        "127.0.0.1.example.org:{port}",
        "127.0.0.1:{port}.example.org",
        "127.0.0.1@x",
        "",
    ],
)
def test_a_foreign_host_is_refused_even_with_the_session(opened: Page, host: str) -> None:
    for path in ("/v1/status", "/", "/web/app.js"):
        status, _, body = opened.ask("GET", path, Host=host.format(port=opened.port))
        assert status == 403
        assert f"ssh -N -L {opened.port}:127.0.0.1:{opened.port} " in json.loads(body)["error"]["hint"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_that_another_site_caused_is_refused(opened: Page, site: str) -> None:
    assert opened.ask("GET", "/v1/status", Sec_Fetch_Site=site)[0] == 403
    assert opened.ask("GET", "/v1/status", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/stop", "/v1/generate", "/v1/status", "/", "/web/app.js"])
def test_the_page_can_look_and_not_act(opened: Page, view: Any, method: str, path: str) -> None:
    assert opened.ask(method, path, b"{}", Origin=opened.origin)[0] == 405
    assert view.stop_reasons == []


def test_looking_at_what_acts_does_nothing(opened: Page, view: Any) -> None:
    for path in ("/v1/stop", "/v1/generate", "/v1/../v1/stop", "/v1/%2e%2e/stop"):
        assert opened.ask("GET", path)[0] in {404, 405}
    assert view.stop_reasons == []


def test_every_answer_keeps_the_page_to_itself(opened: Page) -> None:
    for path in ("/", "/web/app.js", "/v1/status", "/nowhere"):
        _, headers, _ = opened.ask("GET", path)
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_other_sites_get_no_permission_to_ask(page: Page) -> None:
    status, headers, _ = page.ask(
        "OPTIONS", "/v1/status", Origin="http://example.org", Access_Control_Request_Method="GET"
    )

    assert status == 403
    assert not any(name.startswith("access-control") for name in headers)


def test_the_browsers_own_words_do_not_reach_the_daemon(opened: Page) -> None:
    status, _, _ = opened.ask("GET", "/v1/status", Origin=opened.origin, Referer=opened.origin + "/", X_Anything="1")

    assert status == 200


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="asks Linux")
def test_only_this_machine_can_connect(page: Page) -> None:
    table = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]

    assert [row for row in table if row.endswith(f":{page.port:04X}") and row.startswith("0100007F")]
    assert not [row for row in table if row.endswith(f":{page.port:04X}") and row.startswith("00000000")]


def test_a_daemon_that_has_gone_is_a_502_and_the_page_stays(gone: Page) -> None:
    status, _, body = gone.ask("GET", "/v1/status")

    assert (status, json.loads(body)["error"]["code"]) == (502, "not-running")
    assert gone.ask("GET", "/")[0] == 200


def test_events_flow_through(opened: Page, daemon: Any, view: Any) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=20)
    connection.request("GET", "/v1/events", headers=opened.right)
    response = connection.getresponse()
    rounds = []
    while len(rounds) < 2:
        line = response.readline()
        if line.startswith(b"data: "):
            rounds.append(json.loads(line[6:])["round"])
            daemon.call(view.finish_round)
    response.close()
    connection.close()

    assert rounds == [13, 14]
    assert response.getheader("content-type").startswith("text/event-stream")


def test_ending_with_an_open_stream_ends_it_without_a_complaint(opened: Page, caplog: pytest.LogCaptureFixture) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=20)
    connection.request("GET", "/v1/events", headers=opened.right)
    response = connection.getresponse()
    first = response.readline()
    opened.end()
    rest = response.read()
    response.close()
    connection.close()

    assert (first, b"data: " in rest) == (b"event: status\n", True)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HT",
        b"POST /auth/exchange HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_silent_connections_in_every_place_do_not_keep_the_page_away(opened: Page, first: bytes) -> None:
    first = first.replace(b"{host}", f"127.0.0.1:{opened.port}".encode())
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 6):
            stack.enter_context(socket.create_connection(("127.0.0.1", opened.port), timeout=20)).sendall(first)

        assert [opened.ask("GET", path)[0] for path in ("/", "/web/app.js", "/v1/status", "/v1/panels")] == [200] * 4


def test_a_taken_port_is_told_with_advice(page: Page, daemon: Any) -> None:
    with pytest.raises(UsageError, match=f"cannot use port {page.port}") as caught:
        asyncio.run(serve_dashboard(daemon.paths.socket, page.port, asyncio.Event(), print))

    assert "--port" in caught.value.hint


@pytest.fixture
def tunnel(page: Page) -> Iterator[Page]:
    """What `ssh -L OTHER:127.0.0.1:PORT` does: bytes to and fro, on another port."""
    with Forwarder(page.port) as port:
        there = Page(f"http://127.0.0.1:{port}/#token={page.token}")
        yield there


def test_the_command_of_the_tunnel_stands_in_the_documents() -> None:
    (command,) = re.findall(
        r"ssh -N -L (\d+):127\.0\.0\.1:(\d+) \S+", (ROOT / "docs/how-to/dashboard-from-afar.md").read_text()
    )

    assert f"ssh -N -L {command[0]}:127.0.0.1:{command[1]} " in TUNNEL.format(port=command[0])


def test_the_page_is_used_through_a_tunnel_on_another_port(tunnel: Page, daemon: Any, view: Any) -> None:
    exchanged = tunnel.exchange()
    status, _, body = tunnel.ask("GET", "/v1/status", Sec_Fetch_Site="same-origin")
    connection = http.client.HTTPConnection("127.0.0.1", tunnel.port, timeout=20)
    connection.request("GET", "/v1/events", headers=tunnel.right)
    response = connection.getresponse()
    first = response.readline()
    response.close()
    connection.close()

    assert (exchanged, status, json.loads(body)["name"]) == (200, 200, "alice")
    assert first == b"event: status\n"
    assert tunnel.ask("GET", "/web/session.js")[0] == 200


def test_through_a_tunnel_too_other_pages_may_not_look(tunnel: Page, page: Page) -> None:
    assert tunnel.exchange(Origin=page.origin) == 403
    assert tunnel.exchange() == 200
    assert tunnel.ask("GET", "/v1/status", Origin=page.origin)[0] == 403
    assert tunnel.ask("GET", "/v1/status", Origin=tunnel.origin)[0] == 200


def test_a_gate_never_admits_an_empty_session() -> None:
    assert not Gate("token", "session").admits("")
    assert Gate("token", "session").admits("session")


def asked(page: Page, path: str, body: Any, **headers: str | None) -> tuple[int, Any]:
    status, _, found = page.ask("POST", path, json.dumps(body).encode(), **{"Origin": page.origin, **headers})
    return status, found.decode()


def test_the_page_has_a_model_speak_and_hears_it_as_it_speaks(opened: Page, view: Any) -> None:
    said = {"model": "personal", "text": "Dear all", "is_chat": True}
    status, heard = asked(opened, "/ask/respond", said)

    assert status == 200
    assert [line for line in heard.splitlines() if line.startswith("event")] == [
        "event: begun", "event: piece", "event: piece", "event: ended",
    ]  # fmt: skip
    assert view.responses[-1].chat[0].content == "Dear all"
    assert (view.responses[-1].model, view.responses[-1].prompt) == ("personal", None)
    assert asked(opened, "/ask/respond", {**said, "is_chat": False})[0] == 200
    assert view.responses[-1].prompt == "Dear all"


def test_what_is_exported_from_the_page_lies_in_the_home_whatever_the_page_says(opened: Page, view: Any) -> None:
    status, found = asked(opened, "/ask/export", {"format": "gguf", "modelfile": True})
    folder = Path(json.loads(found)["folder"])

    assert status == 200
    assert folder.parent == Path(view.paths()["home"]) / "exports"
    assert re.fullmatch(r"served-gguf-\d{8}-\d{6}", folder.name)
    exported = list(view.exported)
    for more in ({"folder": "/tmp/x"}, {"which": "own"}, {"format": "../../x"}):
        assert asked(opened, "/ask/export", {"format": "gguf", **more})[0] == 400
    assert view.exported == exported


@pytest.mark.parametrize("path", ["/ask/respond", "/ask/export"])
def test_nothing_is_asked_without_the_session_or_by_another_page(
    page: Page, opened: Page, view: Any, path: str
) -> None:
    body = {"model": "base", "text": "x"} if path == "/ask/respond" else {"format": "peft"}
    before = (len(view.responses), len(view.exported))

    assert asked(opened, path, body, Origin=None)[0] == 403
    assert asked(opened, path, body, Origin="http://127.0.0.1:1")[0] == 403
    assert asked(opened, path, body, Sec_Fetch_Site="cross-site")[0] == 403
    assert asked(opened, path, body, **{SESSION_HEADER: "guessed"})[0] == 401
    assert opened.ask("GET", path)[0] == 405
    assert (len(view.responses), len(view.exported)) == before


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": "mine", "text": "x"}', b'{"model": "base", "text": ""}', b"x" * 300_000],
    ids=["empty", "half", "list", "no model", "no text", "too long"],
)  # fmt: skip
def test_what_is_no_question_of_the_page_is_refused(opened: Page, view: Any, body: bytes) -> None:
    before = len(view.responses)

    assert opened.ask("POST", "/ask/respond", body, Origin=opened.origin)[0] == 400
    assert len(view.responses) == before


def test_an_answer_that_nobody_hears_any_more_ends_in_the_daemon(opened: Page, view: Any) -> None:
    before = len(view.cancelled)
    connection = http.client.HTTPConnection("127.0.0.1", opened.port, timeout=20)
    body = json.dumps({"model": "base", "text": "forever"}).encode()
    connection.request("POST", "/ask/respond", body, {**opened.right, "Origin": opened.origin})
    response = connection.getresponse()
    assert response.readline() == b"event: begun\n"
    response.close()
    connection.close()

    deadline = time.monotonic() + 20
    while len(view.cancelled) == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(view.cancelled) == before + 1


def test_a_daemon_that_has_gone_answers_no_question(gone: Page) -> None:
    assert asked(gone, "/ask/export", {"format": "peft"})[0] == 502
    assert asked(gone, "/ask/respond", {"model": "base", "text": "x"})[0] == 502
