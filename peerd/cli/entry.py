"""Where `peerd` begins, and the one place where an error becomes an exit code.

0 fine   1 failure   2 bad usage or input   3 no daemon runs here   4 already running   5 not healthy
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from p2pfinetune.errors import LearningError
from p2pfinetune.system import streams
from peerd.cli.output import INTERRUPTED, fail
from peerd.cli.without_typer import look, plainly_typed
from peerd.errors import PeerdError, UsageError

LEAVING = (signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if arguments is None:  # a process of our own
        streams.settle()
        for number in LEAVING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` leaves it
                signal.signal(number, _leave)
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, as_json, home = _command_of(given), "--json" in _options_of(given), None
    try:
        home = _home_of(given)
        return _run(given)
    except PeerdError as error:
        return fail(name, error, as_json, home)
    except LearningError as error:
        return fail(name, UsageError(str(error), error.hint), as_json, home)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if arguments is None:  # it is done: what comes now changes neither its exit code nor its last words
            for number in (signal.SIGINT, *LEAVING):
                signal.signal(number, signal.SIG_IGN)


def _leave(number: int, _: object) -> None:
    """As Ctrl-C does: what is half done is tidied up on the way out. A daemon that runs has its own way to end."""
    raise SystemExit(128 + number)


def _run(given: list[str]) -> int:
    if (plain := plainly_typed(given)) is not None:
        return look(*plain)
    from peerd.cli import app

    return app.run(given)


def _options_of(given: list[str]) -> list[str]:
    return given[: given.index("--")] if "--" in given else given


def _home_of(given: list[str]) -> Path | None:
    """What --home says, if it was typed: looked for here, since a bad line is told before it is parsed.

    Raises UsageError if it is empty, as a variable is that was not set: that would be the folder one stands in.
    """
    words = _options_of(given)
    said = [word.removeprefix("--home=") for word in words if word.startswith("--home=")]
    said += [after for word, after in pairwise(words) if word == "--home"]
    if "" in said:
        raise UsageError("--home is empty", "give a folder, or leave it out")
    return Path(said[0]) if said else None


def _command_of(given: list[str]) -> str:
    return given[0] if given and not given[0].startswith("-") else ""
