"""`peerd debug`: what the flight recorder of a running daemon has, as a file or as a story."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from peerd.cli.common_options import AsJson, Home
from peerd.cli.output import finish, say
from peerd.control import answers
from peerd.control.client import Client
from peerd.control.questions import Debugging
from peerd.errors import UsageError

ACTIONS = ("record", "story", "check", "no-check")


def debug(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="record FILE, story ID, check or no-check.")],
    word: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="Of record: a new file. Of story: a peer's id, a blob's digest.")
    ] = "",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Say what happened to the daemon lately: its core's last events, as a file that can be run again, or as a story.

    A record holds no text of yours, no tensors and no keys; it does hold ids, names and addresses of peers. `check`
    looks at what must hold of the core after every event, until `no-check`; a fault is counted in `peerd status`.
    """
    checked = _action(action)
    if checked == "record":
        _require_new(word)
    with Client(home) as client:
        found = client.debug(checked, "" if checked == "record" else word)
    if checked == "record":
        _write(Path(word), found.record)
        found = msgspec.structs.replace(found, record=b"", file=str(Path(word).absolute()))
    finish("debug", found, as_json, lambda: _told(found, word))


def _action(given: str) -> Debugging:
    try:
        found: Debugging = msgspec.convert(given, Debugging)
    except msgspec.ValidationError:
        raise UsageError(f"{given!r} is not one of {', '.join(ACTIONS)}", "peerd debug --help") from None
    return found


def _require_new(file: str) -> None:
    if not file:
        raise UsageError("a record needs a file", "peerd debug record what-happened.record")
    if os.path.lexists(file):
        raise UsageError(f"{file} is there already", "name a new file")


def _write(file: Path, data: bytes) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            written.write(data)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", "name another file") from error


def _told(found: answers.Debugged, word: str) -> None:
    if found.file:
        say(f"{found.events} events are in {found.file}")
        say(f"It holds ids, names and addresses of peers. Run it: python -m peerd.testing.replay {found.file}")
    elif found.lines:
        for line in found.lines:
            say(line)
    elif word:
        say(f"Nothing in the last {found.events} events names {word}")
    else:
        say(f"{found.events} events are held; invariants are {'looked at' if found.checks else 'not looked at'}")
