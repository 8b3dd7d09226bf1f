"""What the daemons of the demo say while they work: polled over their sockets, shown as a live table or plain lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.table import Table

from p2pfinetune.names import PeerId
from p2pfinetune.scoring.perplexity import DIVERGED, MAX_PERPLEXITY, perplexity
from peerd.control.client import AsyncClient
from peerd.demo.plan import Member
from peerd.demo.processes import DemoProcess
from peerd.errors import NotRunning, PeerdError, Unreachable
from peerd.status import RoundRecord, Status

POLL_SECONDS = 1.0


@dataclass
class View:
    """The latest of one daemon."""

    member: Member
    child: DemoProcess
    status: Status | None = None
    rounds: list[RoundRecord] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.rounds)


async def look(view: View) -> list[RoundRecord]:
    """Ask one daemon; returns the rounds that are new. A daemon that died is an error with its last words."""
    if view.child.process.returncode is not None:
        raise PeerdError(
            f"{view.member.name} stopped with exit code {view.child.process.returncode}:\n{view.child.last_words()}"
        )
    try:
        async with AsyncClient(home=view.member.home) as client:
            view.status = await client.status()
            rounds = await client.rounds()
    except (NotRunning, Unreachable):
        return []  # still starting
    new, view.rounds = rounds[len(view.rounds) :], rounds
    return new


async def watch(views: list[View], rounds: int, console: Console, timeout_seconds: float) -> None:
    """Until every daemon has finished `rounds`. Raises PeerdError when one dies or all take too long."""
    begun = time.monotonic()
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
    if live:
        live.start()
    try:
        while any(view.done < rounds for view in views):
            if time.monotonic() - begun > timeout_seconds:
                raise PeerdError(f"the demo did not finish within {timeout_seconds:.0f} s: {lagging(views, rounds)}")
            await look_at_all(
                views, rounds, begun, None if live else partial(console.print, soft_wrap=True, highlight=False)
            )
            if live:
                live.update(table(views, rounds, begun))
            await asyncio.sleep(POLL_SECONDS)
    finally:
        if live:
            live.stop()


async def look_at_all(views: list[View], rounds: int, begun: float, tell: Callable[[str], object] | None) -> None:
    """One pass over the daemons, side by side; new rounds become plain lines if nobody watches a table."""
    died: list[PeerdError] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            looks = [tasks.create_task(look(view), name=f"look at {view.member.name}") for view in views]
    except* PeerdError as group:
        died = [error for error in group.exceptions if isinstance(error, PeerdError)]
    if died:  # the first is enough for a person: what ends several daemons at once has one cause
        raise died[0]
    if tell:
        for view, found in zip(views, looks, strict=True):
            for record in found.result():
                tell(line(view, record, rounds, views, time.monotonic() - begun))


def lagging(views: list[View], rounds: int) -> str:
    """Who is behind, and why it says it is."""
    late = [v for v in views if v.done < rounds]
    return "; ".join(f"{v.member.name}: {v.status.sentence if v.status else 'not started'}" for v in late)


def line(view: View, record: RoundRecord, rounds: int, views: list[View], seconds: float) -> str:
    """One finished round in one line."""
    names = {v.member.peer_id: v.member.name for v in views}
    row = sorted(((w, names.get(p, p)) for p, w in record.row.items() if p != view.member.peer_id), reverse=True)
    trusted = ", ".join(f"{name} {weight:.0%}" for weight, name in row[:2] if weight >= 0.005) or "nobody yet"
    which = f"round {record.round}/{rounds}" if record.round <= rounds else "resting"
    refused = f"  merge refused: {record.reason}" if record.reason and not record.accepted else ""
    return (
        f"{seconds:4.0f} s  {view.member.name:<10} {which:<10} perplexity {worded(record.guard_base)} -> "
        f"{worded(record.guard_personal)}  trusts {trusted}{refused}"
    )


def worded(loss: float | None) -> str:
    found = perplexity(loss)
    return "   - " if found is None else f"{found:5.1f}" if found < MAX_PERPLEXITY else DIVERGED


def table(views: list[View], rounds: int, begun: float) -> Table:
    """All peers at a glance."""
    grid = Table(title=f"{len(views)} daemons, {time.monotonic() - begun:.0f} s", title_justify="left")
    for column in ("peer", "round", "what it does", "base", "own", "personal", "trusts most", "tokens/s"):
        grid.add_column(column, justify="right" if column in ("base", "own", "personal", "tokens/s") else "left")
    names = {v.member.peer_id: v.member.name for v in views}
    for view in views:
        grid.add_row(*cells(view, rounds, names))
    return grid


def cells(view: View, rounds: int, names: dict[PeerId, str]) -> list[str]:
    """One row of the live table."""
    status = view.status
    bar = "█" * (8 * view.done // rounds) + "░" * (8 - 8 * view.done // rounds)
    progress = f"{bar} {view.done}/{rounds}"
    if status is None:
        return [view.member.name, progress, "starting: loading the model", "", "", "", "", ""]
    last = view.rounds[-1] if view.rounds else None
    others = {p: w for p, w in (last.row if last else {}).items() if p != view.member.peer_id}
    best = max(others, key=lambda p: others[p], default=None)
    rate = status.worker.tokens_per_second
    return [
        view.member.name,
        progress,
        status.sentence[:44],
        worded(last.guard_base if last else None),
        worded(last.guard_own if last else None),
        worded(last.guard_personal if last else None),
        f"{names.get(best, best)} {others[best]:.0%}" if best and others[best] > 0 else "-",
        f"{rate:,.0f}" if rate else "",
    ]
