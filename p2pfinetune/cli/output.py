"""What a command prints: its result on standard output, as words or one JSON document; all else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from p2pfinetune.cli import answers
from p2pfinetune.system import streams

INDENT = "  "


def finish(command: str, data: Any, as_json: bool, words: Callable[[], str]) -> None:
    """The result of a command. Raises OSError if it could not be written; a reader that left has seen enough."""
    sys.stdout.write(_written(answers.document(command, data)) if as_json else words().rstrip("\n") + "\n")
    sys.stdout.flush()
    if (trouble := streams.lost(sys.stdout)) is not None and not streams.left(sys.stdout):
        raise OSError(trouble.errno, trouble.strerror, "standard output")


def fail(command: str, code: str, message: str, hint: str, as_json: bool) -> None:
    """Say what went wrong and what to do."""
    if as_json:
        sys.stdout.write(_written(answers.failure(command, code, message, hint)))
        sys.stdout.flush()
    complain(f"p2pfinetune {command}: {message}".replace(" : ", ": "))
    if hint:
        complain(f"{INDENT}{hint}")


def complain(text: str) -> None:
    """To standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of words; all but the first stand to the right."""
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(headings))]
    lines = []
    for row in [headings, *rows]:
        cells = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _written(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"
