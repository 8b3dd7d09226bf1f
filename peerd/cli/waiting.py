"""How far a command of our own is: a bar where a person sits at a terminal, a plain line now and then elsewhere.

On standard error, so that what a command prints can be sent elsewhere. A quick command shows nothing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from p2pfinetune.data.telling import Tell
from peerd.cli.output import complain

QUIET_SECONDS = 1.0  # whoever waits less needs no bar
BAR_SECONDS, LINE_SECONDS = 0.1, 10.0  # between two drawings; between two lines of a log


@contextmanager
def shown_progress() -> Iterator[Tell]:
    """What to tell as it goes; the bar is gone when it ends, however it ends."""
    if not (sys.stderr.isatty() and os.environ.get("TERM") != "dumb"):
        yield _Paced(lambda what, done, total: complain(_words(what, done, total)), LINE_SECONDS, LINE_SECONDS)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", visible=False)

        def draw(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None, visible=True)
            bar.refresh()

        yield _Paced(draw, QUIET_SECONDS, BAR_SECONDS)


class _Paced:
    """Passes on what is told, not too soon and not too often."""

    def __init__(self, draw: Tell, first: float, pause: float) -> None:
        self._draw, self._pause = draw, pause
        self._next = time.monotonic() + first

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._draw(what, done, total)
            self._next = time.monotonic() + self._pause


def _words(what: str, done: int, total: int) -> str:
    return f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}"
