"""The commands put together, and the one place where an error becomes an exit code.

0 fine   1 failure   2 bad usage or input   3 no daemon runs here   4 already running   5 not healthy
"""

from __future__ import annotations

import importlib
import itertools
import sys
from typing import Annotated, Any

import typer

from peerd import __version__
from peerd.cli.commands import COMMANDS, NAMES
from peerd.cli.output import INTERRUPTED, say
from peerd.errors import UsageError

_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


def build(only: str = "") -> typer.Typer:
    """The application; with `only`, that command alone, because every option of every command costs time."""
    app = typer.Typer(
        name="peerd",
        help="Fine-tune a language model on your own text, with peers you come to trust. Your text stays here.",
        epilog="Exit codes: 0 fine, 1 failure, 2 bad usage or input, 3 no daemon runs here, 4 already running, "
        "5 not healthy.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_whole)
    for name, module, attribute, example in COMMANDS:
        if only and name != only:
            continue
        function = getattr(importlib.import_module(f"peerd.cli.{module}"), attribute)
        app.command(name, epilog=f"Example:  {example}".replace("[", r"\["))(function)
    return app


def _tell_version(asked: bool) -> None:
    if asked:
        say(f"peerd {__version__}")
        raise typer.Exit


def _whole(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """What stands before the command."""


def run(given: list[str]) -> int:
    """Parse and do; returns the exit code. Raises PeerdError, bad usage included."""
    try:
        given = _in_words(given) if _first(given) == "start" else given
        found: Any = typer.main.get_command(build(_first(given))).main(given, prog_name="peerd", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except _ClickError as error:
        return _misused(_first(given), error)
    return found if isinstance(found, int) else 0


def _in_words(typed: list[str]) -> list[str]:
    """`--twin` with no word behind it and `--no-twin`, once all there was, as `--twin on` and `--twin off`."""
    found: list[str] = []
    for word, behind in itertools.zip_longest(typed, typed[1:]):
        if word == "--no-twin":
            found += ["--twin", "off"]
        else:
            found += [word, *(["on"] if word == "--twin" and (behind is None or behind.startswith("-")) else [])]
    return found


def _misused(name: str, error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        sys.stdout.write(error.format_message() + "\n")
        return UsageError.exit_code
    raise UsageError(error.format_message(), f"see: peerd {name} --help".replace("  ", " ")) from error


def _first(given: list[str]) -> str:
    """The command, if that is the first word."""
    return given[0] if given and given[0] in NAMES else ""
