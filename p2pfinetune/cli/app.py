"""The commands put together. Nothing here or below loads torch before a command has something to do."""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated, Any

import typer

from p2pfinetune.cli.compare import compare
from p2pfinetune.cli.reproduce import reproduce
from p2pfinetune.cli.simulate import simulate
from p2pfinetune.errors import OptionError

_ClickError: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

COMMANDS: tuple[tuple[str, Any, str], ...] = (
    ("simulate", simulate, "p2pfinetune simulate ring.toml --seed 3 --out runs/ring-3"),
    ("reproduce", reproduce, "p2pfinetune reproduce languages --mix specific --model nano --seeds 3 --out results"),
    ("compare", compare, "p2pfinetune compare --settings languages,code-wiki --models nano --out comparison"),
)
"""Name, function, example."""

INTERRUPTED = 130  # as shells report Ctrl-C

NAMES = frozenset(name for name, *_ in COMMANDS)


def build() -> typer.Typer:
    """The application."""
    app = typer.Typer(
        name="p2pfinetune",
        help="Simulate peers that fine-tune a language model together, and rerun the paper's comparison.",
        epilog="Exit codes: 0 fine, 1 failure, 2 bad usage or input, 130 interrupted (the same command goes on).",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode="rich",
    )
    app.callback()(_whole)
    for name, function, example in COMMANDS:
        app.command(name, epilog=f"Example:  {example}".replace("[", r"\["))(function)
    return app


def run(given: list[str]) -> int:
    """Parse and do; returns the exit code. Raises LearningError, bad usage included, and KeyboardInterrupt."""
    try:
        found: Any = typer.main.get_command(build()).main(given, prog_name="p2pfinetune", standalone_mode=False)
    except typer.Abort as error:  # what older versions of Typer make of Ctrl-C
        raise KeyboardInterrupt from error
    except _ClickError as error:
        return _misused(given, error)
    if found == INTERRUPTED:  # what newer ones make of it
        raise KeyboardInterrupt
    return found if isinstance(found, int) else 0


def _misused(given: list[str], error: Any) -> int:
    name = given[0] if given and given[0] in NAMES else ""
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help
        sys.stdout.write(error.format_message() + "\n")
        return 2
    raise OptionError(error.format_message(), f"see: p2pfinetune {name} --help".replace("  ", " ")) from error


def _tell_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"p2pfinetune {importlib.metadata.version('peerd')}\n")
        raise typer.Exit


def _whole(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """What stands before the command."""
