"""How far simulations are, on standard error: bars where a person watches, lines where nobody does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from p2pfinetune.cli.output import complain
from p2pfinetune.scoring.perplexity import perplexity, written

LINE_SECONDS = 20.0  # between two lines about a run that has not ended


@dataclass(frozen=True, slots=True)
class Step:
    """What is told: one run has come so far."""

    name: str
    done: int
    total: int
    guard_loss: float | None = None

    @property
    def has_ended(self) -> bool:
        """Nothing more will be told of it."""
        return self.done >= self.total

    @property
    def perplexity(self) -> str:
        """In words; empty if it is not known."""
        return "" if self.guard_loss is None else f"guard perplexity {written(perplexity(self.guard_loss))}"


Tell = Callable[[Step], None]


@contextmanager
def progress(runs: int) -> Iterator[Tell]:
    """While so many runs go on."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(runs, complain, time.monotonic).tell
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    columns += [TimeRemainingColumn(), TextColumn("{task.fields[note]}")]
    with Progress(*columns, console=console, transient=True) as bars:
        yield Bars(runs, bars).tell


class Bars:
    """A bar a run that goes on, above them one for all if there are several."""

    def __init__(self, runs: int, bars: Any) -> None:
        self._bars, self._runs = bars, runs
        self._all = bars.add_task("all runs", total=runs, note="") if runs > 1 else None
        self._ids: dict[str, Any] = {}
        self._ended: set[str] = set()

    def tell(self, step: Step) -> None:
        """Move one bar."""
        if step.name in self._ended:
            return
        if step.name not in self._ids:
            self._ids[step.name] = self._bars.add_task(step.name, total=step.total, note="")
        self._bars.update(self._ids[step.name], completed=step.done, total=step.total, note=step.perplexity)
        if step.has_ended:
            self._ended.add(step.name)
            if self._all is not None:
                self._bars.remove_task(self._ids.pop(step.name))
                self._bars.update(self._all, completed=len(self._ended))


class Lines:
    """A line a run that ended, and now and then one about a run that goes on."""

    def __init__(self, runs: int, write: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._runs, self._write, self._clock = runs, write, clock
        self._begun = self._last = clock()
        self._ended: set[str] = set()

    def tell(self, step: Step) -> None:
        """Perhaps write a line."""
        now = self._clock()
        if step.name in self._ended or (not step.has_ended and now - self._last < LINE_SECONDS):
            return
        self._last = now
        if step.has_ended:
            self._ended.add(step.name)
        far = f"done ({len(self._ended)} of {self._runs})" if step.has_ended else f"{step.done / step.total:4.0%}"
        self._write(f"{now - self._begun:5.0f} s  {step.name}  {far}  {step.perplexity}".rstrip())
