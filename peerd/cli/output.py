"""What a command prints: one JSON document on standard output, or words for people, as tables if there is room."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from p2pfinetune.system import streams
from p2pfinetune.system.path_names import shown
from peerd.cli.commands import OF_A_HOME
from peerd.control import answers
from peerd.control.render import columns as width_of
from peerd.control.render import line, padded, printable, written
from peerd.errors import PeerdError

INTERRUPTED = 130  # as shells report Ctrl-C
INDENT = "  "
DIM = ("\u27ea", "\u27eb")  # double angle brackets, which stand in hardly any text
GAP = 2  # columns of a terminal between those of a table
_COMMAND = re.compile(rf"\bpeerd ({'|'.join(OF_A_HOME)})\b(?! --(?:home|help)\b|:)")


def finish(command: str, data: Any, as_json: bool, human: Callable[[], None]) -> None:
    """The result of a command. Raises PeerdError if it could not be written; a reader that left has seen enough."""
    if as_json:
        write_document(answers.document(command, data))
    else:
        human()
    sys.stdout.flush()
    if (trouble := streams.lost(sys.stdout)) is not None and not streams.left(sys.stdout):
        raise PeerdError(
            f"the answer cannot be written to standard output: {trouble.strerror}",
            "make room there, or send it to another file",
        )


def write_document(document: dict[str, Any]) -> None:
    """Plain ASCII, so that no name of a stranger can play tricks with a terminal."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def in_home(text: str, home: Path | None) -> str:
    """The commands in a text as they reach the daemon of this home, for whoever pastes them."""
    if home is None:
        return text
    return _COMMAND.sub(lambda found: f"{found[0]} --home {shlex.quote(str(home))}", text)


def fail(command: str, error: PeerdError, as_json: bool, home: Path | None = None) -> int:
    """Tell what went wrong and what to do; returns the exit code."""
    message, hint = (_encodable(in_home(text, home)) for text in (str(error), error.hint))
    if as_json:
        problem = answers.Problem(code=error.code, message=message, hint=hint)
        write_document(answers.failure(command, problem))
    complain(f"peerd {command}: {message}" if command else f"peerd: {message}")
    if hint:
        complain(f"{INDENT}{hint}")
    return error.exit_code


def _encodable(text: str) -> str:
    """Names of files may hold bytes that are no text; lines stay lines."""
    return "\n".join(shown(one) for one in text.split("\n"))


def complain(text: str) -> None:
    sys.stderr.write(_clean_lines(text) + "\n")
    sys.stderr.flush()


def say(text: str = "") -> None:
    sys.stdout.write(_clean_lines(text) + "\n")


def say_text(parts: Sequence[tuple[str, bool]]) -> None:
    """A text with every character that it has; those that could move a cursor or hide are spelled out.

    Parts that are not bright are dim at a terminal, and between marks elsewhere.
    """
    spelled = [(_spelled(text), is_bright) for text, is_bright in parts]
    if is_rich():
        from rich.console import Console
        from rich.text import Text

        whole = Text.assemble(*((text, "" if is_bright else "dim") for text, is_bright in spelled))
        Console(highlight=False).print(whole, soft_wrap=True)
    else:
        sys.stdout.write("".join(text if bright else f"{DIM[0]}{text}{DIM[1]}" for text, bright in spelled) + "\n")


def _spelled(text: str) -> str:
    return "".join(c if c in "\n\t" or printable(c) else ascii(c)[1:-1] for c in text)


def say_bold(text: str) -> None:
    """The one line that matters most."""
    if is_rich():
        from rich.console import Console
        from rich.text import Text

        Console(highlight=False).print(Text(_clean_lines(text), style="bold"))
    else:
        say(text)


def is_rich() -> bool:
    """Whether a person with a capable terminal reads this."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and "NO_COLOR" not in os.environ


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
    """Columns are (heading, unit of peerd.control.drawings); numbers stand to the right."""
    texts = [[written(value, unit) for value, (_, unit) in zip(row, columns, strict=True)] for row in rows]
    right = [unit not in {"text", "id", ""} for _, unit in columns]
    if is_rich() and _fits(columns, texts):
        _rich_table([heading for heading, _ in columns], right, texts)
    else:
        _plain_table([heading for heading, _ in columns], right, texts)


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Labels and values, one a line."""
    width = max((len(label) for label, _ in pairs), default=0)
    for label, value in pairs:
        say(f"{INDENT}{label:<{width}}  {value}")


def _fits(columns: Sequence[tuple[str, str]], texts: list[list[str]]) -> bool:
    """Whether a drawn table has room: otherwise it would cut figures, and `25…` is no figure."""
    widths = [max(len(heading), *(width_of(row[i]) for row in texts)) for i, (heading, _) in enumerate(columns)]
    return sum(widths) + GAP * len(widths) <= shutil.get_terminal_size().columns


def _plain_table(headings: list[str], right: list[bool], texts: list[list[str]]) -> None:
    widths = [max(width_of(row[i]) for row in [headings, *texts]) for i in range(len(headings))]
    for row in [headings, *texts]:
        cells = [padded(t, w, to_the_right=r) for t, w, r in zip(row, widths, right, strict=True)]
        say("  ".join(cells).rstrip())


def _rich_table(headings: list[str], right: list[bool], texts: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading, to_right in zip(headings, right, strict=True):
        drawn.add_column(heading, justify="right" if to_right else "left")
    for row in texts:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(drawn)


def _clean_lines(text: str) -> str:
    return "\n".join(line(one) for one in text.split("\n"))
