"""A hub on loopback that speaks what `huggingface_hub` asks for, so that the real download code runs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "c0ffee" * 6 + "beef"


@dataclass
class FakeHub:
    """Repositories by name, each with files by name; `asked` is what was asked for."""

    repositories: Mapping[str, Mapping[str, bytes]]
    licence: str = "apache-2.0"
    asked: list[str] = field(default_factory=list)
    stuck_at: int = 0
    """Byte of a file beyond which nothing is sent, however often it is asked for; 0: all is."""
    url: str = ""

    def answer(self, path: str) -> Any:
        """Of the API: what there is of a model, or the list of its files; None if there is none."""
        for name, files in self.repositories.items():
            if path.startswith(f"/api/models/{name}/tree/"):
                return [{"type": "file", "path": file, "size": len(c), "oid": etag(c)} for file, c in files.items()]
            if path.startswith(f"/api/models/{name}"):
                siblings = [
                    {"rfilename": file, "size": len(content), "blobId": etag(content)}
                    for file, content in files.items()
                ]
                return {"id": name, "sha": COMMIT, "tags": [f"license:{self.licence}"], "siblings": siblings, "private": False,
                        "downloads": 0, "likes": 0, "gated": False, "disabled": False}  # fmt: skip
        return None

    def content(self, path: str) -> bytes | None:
        found = {f"/{name}/resolve/": files for name, files in self.repositories.items()}
        for start, files in found.items():
            if path.startswith(start):
                return files.get(path.removeprefix(start).partition("/")[2])
        return None


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """While it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path} {self.headers.get('range', '')}".strip())
            if path.startswith("/api/"):
                found = hub.answer(path)
                self._send(json.dumps(found).encode() if found is not None else None)
            else:
                self._send(hub.content(path), is_file=True)

        def _send(self, content: bytes | None, *, is_file: bool = False) -> None:
            begin = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(404 if content is None else 206 if "range" in self.headers else 200)
            if content is None:
                self.send_header("X-Error-Code", "RepoNotFound")
                content = b""
            body = content[begin:]
            self.send_header("Content-Length", str(len(body)))
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            if is_file:
                self.send_header("ETag", f'"{etag(content)}"')
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "HEAD":
                return
            if is_file and hub.stuck_at and len(content) > hub.stuck_at:
                self.wfile.write(content[begin : hub.stuck_at])
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
