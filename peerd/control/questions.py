"""What a client may ask of a daemon, as values: method, path, body, and how long an answer may take. Pure."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from p2pfinetune.names import Which
from peerd.control import answers
from peerd.errors import UsageError
from peerd.machine.paths import absolute

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
    return Request("GET", f"/v1/rounds?last={_last(last)}")


def sent(last: int) -> Request:
    """What left this device in the last rounds."""
    return Request("GET", f"/v1/sent?last={_last(last)}")


def generate(prompt: str, max_tokens: int, temperature: float, seed: int) -> Request:
    """Three continuations."""
    asked = answers.GenerateAsked(prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed)
    return Request("POST", "/v1/generate", _body(asked), SLOW_SECONDS)


def export(folder: str | os.PathLike[str], which: Which) -> Request:
    """The adapter of one model, into a folder."""
    asked = answers.ExportAsked(folder=str(target(folder)), which=which)
    return Request("POST", "/v1/export", _body(asked), SLOW_SECONDS)


def unban(peer_id: str) -> Request:
    """Lift a ban."""
    return Request("POST", "/v1/unban", _body(answers.UnbanAsked(peer_id=peer_id)))


def stop(reason: str) -> Request:
    """End in order."""
    return Request("POST", "/v1/stop", _body(answers.StopAsked(reason=reason)))


def target(folder: str | os.PathLike[str]) -> Path:
    """The folder to export to, as it is meant where it is typed: the daemon stands elsewhere.

    Raises UsageError for what is no folder's name, and for a file.
    """
    text = os.fsdecode(folder)
    if not text.strip() or "\0" in text:
        raise UsageError("the folder's name is empty", "name one, for example: peerd export ./my-adapter")
    try:
        text.encode()
        path = Path(os.path.normpath(absolute(text)))
    except UnicodeEncodeError as error:
        raise UsageError("the folder's name holds bytes that are no UTF-8", "choose another name") from error
    try:
        if not path.is_dir() and (path.exists() or path.is_symlink()):
            raise UsageError(f"{path} is a file", "name a folder")
    except OSError as error:
        raise UsageError(f"{path} cannot be used: {error.strerror}", "choose another folder") from error
    return path


def _last(last: int) -> int:
    if not 1 <= last <= answers.MAX_ROUNDS:
        raise UsageError(f"last is a number from 1 to {answers.MAX_ROUNDS}")
    return last


def _body(asked: msgspec.Struct) -> bytes:
    """As JSON, once the daemon would take it. Raises UsageError that names the field."""
    try:
        msgspec.convert(msgspec.structs.asdict(asked), type(asked))
        return msgspec.json.encode(asked)
    except msgspec.ValidationError as error:
        said, _, field = str(error).partition(" - at `$.")
        raise UsageError(f"{field.rstrip('`')}: {said[0].lower()}{said[1:]}" if field else said) from error
    except UnicodeEncodeError as error:
        raise UsageError("there are bytes in it that are no UTF-8", "write it in UTF-8") from error


STATUS = Request("GET", "/v1/status")
HEALTH = Request("GET", "/v1/health")
PEERS = Request("GET", "/v1/peers")
TRUST = Request("GET", "/v1/trust")
METRICS = Request("GET", "/v1/metrics")
IDENTITY = Request("GET", "/v1/id")
PATHS = Request("GET", "/v1/paths")
TEST = Request("POST", "/v1/test", b"{}", SLOW_SECONDS)
