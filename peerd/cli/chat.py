"""A chat at a terminal, or line by line from a pipe.

What was said stays in this process alone: the daemon is sent all of it with every turn and keeps nothing, and no file
of what was typed is written. Ctrl-C ends the answer that is being given, and at the prompt the chat.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from p2pfinetune.speech import ChatLine
from peerd.cli.output import complain, say
from peerd.cli.speaking import Interrupted, Wish, spoken
from peerd.control.client import Client
from peerd.control.questions import MAX_PROMPT
from peerd.errors import PeerdError, UsageError

PROMPT = "you: "
RESET, QUIT, HELP = "/reset", "/quit", "/help"
SAYS = f"{RESET} begins anew, {QUIT} or Ctrl-D ends; Ctrl-C ends an answer, and then the chat."


def chat(client: Client, asked: Wish, first: str | None) -> None:
    """Until there is nothing more to read. Errors end a chat that nobody sits at; a person reads them and goes on."""
    at_a_terminal = sys.stdin.isatty()
    if at_a_terminal:
        complain(f"talking with the {asked.model} model; {SAYS}")
    lines: list[ChatLine] = []
    for line in _lines(first, at_a_terminal):
        if line == RESET:
            lines = []
        elif line == QUIT:
            return
        elif line == HELP and at_a_terminal:
            complain(SAYS)
        elif line.strip():
            lines = _turn(client, asked, [*lines, ChatLine("user", line)], at_a_terminal)


def _turn(client: Client, asked: Wish, lines: list[ChatLine], at_a_terminal: bool) -> list[ChatLine]:
    """What has been said after it; without the question if it was not answered."""
    try:
        said = spoken(client, asked, None, lines)
    except Interrupted as stopped:
        if not at_a_terminal:
            raise
        said = stopped.said
    except PeerdError as error:
        if not at_a_terminal:
            raise
        complain(f"{error}{f'; {error.hint}' if error.hint else ''}")
        return lines[:-1]
    return [*lines, ChatLine("assistant", said)] if said else lines[:-1]


def _lines(first: str | None, at_a_terminal: bool) -> Iterator[str]:
    if first is not None:
        yield first
    if not at_a_terminal:
        for line in sys.stdin:
            yield _bounded(line.rstrip("\r\n"))
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # from then on, `input` can be edited and remembers
    while True:
        try:
            yield input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            say()
            return


def _bounded(line: str) -> str:
    if len(line) > MAX_PROMPT:
        raise UsageError(f"a line of {len(line):,} characters is too long", f"at most {MAX_PROMPT:,}")
    return line
