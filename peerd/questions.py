"""What a client may ask of a daemon, as values: method, path, body, and how long an answer may take. Pure."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from peerd import documents
from peerd.paths import absolute

QUICK_SECONDS = 10.0  # the daemon's loop is never held for long; a machine that swaps may be
SLOW_SECONDS = 1800.0  # the worker finishes what it does, then generates, exports or evaluates


class Request(msgspec.Struct, frozen=True):
    """One question, however it is sent."""

    method: str
    path: str
    body: bytes | None = None
    seconds: float = QUICK_SECONDS


def rounds(last: int) -> Request:
    """The last finished rounds."""
    return Request("GET", f"/v1/rounds?last={last}")


def sent(last: int) -> Request:
    """What left this device in the last rounds."""
    return Request("GET", f"/v1/sent?last={last}")


def generate(prompt: str, max_tokens: int, temperature: float, seed: int) -> Request:
    """Three continuations."""
    asked = documents.GenerateAsked(prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return Request("POST", "/v1/generate", msgspec.json.encode(asked), SLOW_SECONDS)


def export(folder: str | os.PathLike[str]) -> Request:
    """The personal adapter, into a folder."""
    asked = documents.ExportAsked(folder=str(absolute(Path(folder))))
    return Request("POST", "/v1/export", msgspec.json.encode(asked), SLOW_SECONDS)


def unban(peer_id: str) -> Request:
    """Lift a ban."""
    return Request("POST", "/v1/unban", msgspec.json.encode(documents.UnbanAsked(peer_id=peer_id)))


def stop(reason: str) -> Request:
    """End in order."""
    return Request("POST", "/v1/stop", msgspec.json.encode(documents.StopAsked(reason=reason)))


STATUS = Request("GET", "/v1/status")
HEALTH = Request("GET", "/v1/health")
PEERS = Request("GET", "/v1/peers")
TRUST = Request("GET", "/v1/trust")
METRICS = Request("GET", "/v1/metrics")
IDENTITY = Request("GET", "/v1/id")
PATHS = Request("GET", "/v1/paths")
TEST = Request("POST", "/v1/test", b"{}", SLOW_SECONDS)
