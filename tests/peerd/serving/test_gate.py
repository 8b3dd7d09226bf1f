"""Who may ask `peerd serve`: what a page, another user of the machine or a program without the key could try."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from peerd.control.door import as_it_is
from peerd.errors import StoreError, UsageError
from peerd.serving.gate import maker_of
from peerd.serving.key import load_or_create
from tests.support.view import FakeView

CHAT = {"model": "personal", "messages": [{"role": "user", "content": "hi"}]}
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {} {} 01 00000000:00000000 00:00000000 00000000 {:5d}        0 1 1\n"


def words(document: Any) -> str:
    return str(document["error"]["message"] if isinstance(document["error"], dict) else document["error"])


@pytest.mark.parametrize("path", ["/v1/models", "/api/tags", "/api/version", "/v1/nothing", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "shown", [None, "Bearer", "Bearer wrong", "Basic {key}", "{key}", "Bearer {key}x", "Bearer \u00e9"]
)
def test_without_the_key_nothing_is_answered(served: Any, path: str, shown: str | None) -> None:
    shown = None if shown is None else shown.format(key=served.key)
    status, headers, found = served.ask("POST" if "chat" in path else "GET", path, CHAT, Authorization=shown)

    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert "peerd serve --show-key" in words(found)
    assert isinstance(found["error"], str) == path.startswith("/api/")
    assert served.view.responses == []


def test_the_key_is_asked_for_before_a_request_is_read_and_the_root_says_that_something_is_here(served: Any) -> None:
    assert served.ask("GET", "/", Authorization=None)[::2] == (
        200,
        "peerd serve: OpenAI's interface is at /v1, Ollama's at /api\n",
    )
    assert served.ask("HEAD", "/", Authorization=None)[0] == 200
    assert served.ask("GET", "/v1/models", Authorization=f"bearer {served.key}")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.1.20:80", "", "localhost:99:1"])
def test_a_name_that_was_made_to_point_here_is_refused_with_the_key_too(served: Any, host: str) -> None:
    status, _, found = served.ask("GET", "/v1/models", Host=host)

    assert status in {400, 403}  # the empty one is no HTTP
    assert status == 400 or "127.0.0.1" in words(found)


@pytest.mark.parametrize("host", ["localhost", "[::1]:11435", "127.0.0.1:1"])
def test_this_machine_may_be_called_as_it_likes(served: Any, host: str) -> None:
    assert served.ask("GET", "/v1/models", Host=host)[0] == 200


def test_pages_are_told_nothing_of_cors_and_without_a_key_they_are_refused(served: Any, fresh: Any, start: Any) -> None:
    page = {"Origin": "https://evil.example"}
    asked, headers, _ = served.ask("OPTIONS", "/v1/models", Authorization=None, **page)
    with start(fresh, FakeView(), key=None) as open_to_mine:
        statuses = [open_to_mine.ask("GET", "/api/version", Authorization=None, **more)[0] for more in ({}, page)]

    assert asked == 401
    assert not [name for name in headers if name.startswith("access-control")]
    assert statuses == [200, 403]


def test_at_a_socket_the_user_is_known_no_key_is_asked_for_and_its_folder_keeps_its_rights(
    fresh: Any, start: Any, daemon_of: Any, tmp_path: Path
) -> None:
    at, view = fresh.home.parent / "serve.sock", FakeView()
    fresh.home.parent.chmod(0o755)
    with daemon_of(fresh, view), start(fresh, view, at=at):
        mode = stat.S_IMODE(at.stat().st_mode)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(at))
        connection.request("GET", "/v1/models")
        status = connection.getresponse().status
        connection.close()

    assert (mode, status) == (0o600, 200)
    assert stat.S_IMODE(fresh.home.parent.stat().st_mode) == 0o755
    assert not at.exists()
    with pytest.raises(UsageError, match="there is no folder"):
        as_it_is(tmp_path / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="the table is Linux's")
def test_whose_connection_it_is_is_asked_of_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        assert maker_of(one.getsockname(), listener.getsockname()) == os.getuid()
        assert maker_of(("127.0.0.1", 1), listener.getsockname()) == -1


def test_another_users_connection_is_told_from_mine_and_a_system_without_a_table_tells_nothing(tmp_path: Path) -> None:
    four, six = tmp_path / "tcp", tmp_path / "tcp6"
    mine, theirs, mapped, own = (("127.0.0.1", port) for port in (0x1234, 0x4321, 0x5555, 0x2CAB))
    loop = "0100007F" if sys.byteorder == "little" else "7F000001"
    prefix = "0" * 16 + ("FFFF0000" if sys.byteorder == "little" else "0000FFFF")
    four.write_text(
        HEAD + ROW.format(f"{loop}:1234", f"{loop}:2CAB", 1000) + ROW.format(f"{loop}:4321", f"{loop}:2CAB", 1001)
    )
    six.write_text(HEAD + ROW.format(f"{prefix}{loop}:5555", f"{prefix}{loop}:2CAB", 1002))

    assert [maker_of(one, own, (four, six)) for one in (mine, theirs, mapped)] == [1000, 1001, 1002]
    assert maker_of(own, mine, (four, six)) == -1
    assert maker_of(mine, own, (tmp_path / "a", tmp_path / "b")) is None


def test_connections_of_other_users_are_closed_before_they_are_read(
    fresh: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peerd.serving.gate.maker_of", lambda other, own: os.getuid() + 1)
    with start(fresh, FakeView(), key=None) as theirs, pytest.raises((http.client.HTTPException, ConnectionError)):
        theirs.ask("GET", "/api/version")


def test_the_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    first, second = load_or_create(tmp_path / "key"), load_or_create(tmp_path / "key")

    assert (first.is_new, second.is_new, first.text) == (True, False, second.text)
    assert len(first.text) == 49
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


@pytest.mark.parametrize(("content", "mode"), [("peerd-short", 0o600), ("", 0o600), ("peerd-" + "k" * 43, 0o644)])
def test_a_key_that_is_none_or_that_others_can_read_is_left_and_named(tmp_path: Path, content: str, mode: int) -> None:
    (file := tmp_path / "key").write_text(content)
    file.chmod(mode)

    with pytest.raises(StoreError, match=str(file)) as refused:
        load_or_create(file)
    assert f"rm {file}" in refused.value.hint
    assert file.read_text() == content
