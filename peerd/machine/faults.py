"""Named points where a test makes the daemon die, stop, hang or meet a failing disk. See docs/adr/0012.

    with around("blob.rename"):        # the points `blob.rename.before` and `blob.rename.after`
        file.replace(target)

Nothing happens there unless `arm` found PEERD_FAULT in the environment when the process started:

    PEERD_FAULT="blob.rename.before=kill@3"            the third time, once
    PEERD_FAULT="blob.*=enospc@2+"                     from the second time on, at any of these points
    PEERD_FAULT="rows.checkpoint.*=eio@1-3,start.socket.before=kill"
    PEERD_FAULT="*=trace@1+"                           say every point that is reached

Points of the worker process begin with `worker.`, so no other pattern fires there.

Why in the code and not from outside: what has to be shown is "killed between the write and the sync", and no signal
from outside comes at that moment twice. Every durable step has a pair of points and
the list is closed (`STEPS`), so a test can go over all of it. Unarmed, a point costs a look at an empty list.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from peerd.errors import UsageError

VARIABLE: Final = "PEERD_FAULT"
WORKER: Final = "worker."
TRANSACTIONS: Final = (
    "sequence",
    "announcement",
    "checkpoint",
    "peer",
    "seen",
    "refusal",
    "ban",
    "unban",
    "spending",
    "sent",
)
STEPS: Final = frozenset(
    {
        *("blob.write", "blob.sync", "blob.rename", "blob.folder_sync", "blob.copy", "blob.let_go", "blob.aside"),
        *("blob.append", "blob.truncate", "blob.drop", "blob.delete", "blob.sweep"),
        *(f"generations.{step}" for step in ("write", "sync", "rename", "folder_sync", "aside")),
        *("database.create", "database.rename", "database.aside", "database.tidy"),
        *("database.migrate.begin", "database.migrate.commit"),
        *(f"rows.{name}.{step}" for name in TRANSACTIONS for step in ("begin", "commit")),
        *("config.write", "config.sync", "config.rename", "config.folder_sync"),
        *("identity.write", "identity.sync", "identity.link", "identity.folder_sync"),
        *("start.lock", "start.tidy", "start.socket", "start.network"),
        *("worker.checkpoint", "worker.best", "worker.update", "worker.answer", "worker.step", "worker.collaborate"),
        *("handover.open", "handover.training", "handover.update", "handover.merge", "announcement.speak"),
    }
)
"""What is done for good, what others see, and where a worker dies most."""
POINTS: Final = frozenset(f"{step}.{when}" for step in STEPS for when in ("before", "after"))

_FORM = re.compile(r"(?P<points>[a-z_.*]+)=(?P<action>[a-z]+)(@(?P<first>[1-9]\d{0,8})(?P<last>\+|-[1-9]\d{0,8})?)?")
_EVER = 10**9


@dataclass(slots=True, frozen=True)
class Fault:
    """What happens at some points, from the `first` time one of them is reached to the `last`."""

    text: str
    points: frozenset[str]
    action: str
    first: int = 1
    last: int = 1
    times: Iterator[int] = field(default_factory=lambda: itertools.count(1))  # whose `next` is safe in any thread


_armed: list[Fault] = []


def reached(point: str) -> None:
    """Here something may be made to go wrong."""
    if not _armed:
        return
    for fault in _armed:
        if point in fault.points and fault.first <= next(fault.times) <= fault.last:
            ACTIONS[fault.action](point)


@contextmanager
def around(step: str) -> Iterator[None]:
    """The points before and after what the body does; one that raises has no after."""
    reached(f"{step}.before")
    yield
    reached(f"{step}.after")


def within(what: str) -> Callable[[str], AbstractContextManager[None]]:
    """`around` for the steps of one thing that is written, as `p2pfinetune.system.durable` enters them by name."""
    return lambda step: around(f"{what}.{step}")


def arm(environment: Mapping[str, str]) -> None:
    """Once, when a process starts. Raises UsageError."""
    _armed[:] = parsed(environment.get(VARIABLE, ""))


def warning() -> str:
    """What is armed, in words; empty if nothing is."""
    faults = ",".join(fault.text for fault in _armed)
    return f"{VARIABLE} is set, for tests only: this daemon is going to fail at {faults}" if faults else ""


def parsed(text: str) -> list[Fault]:
    """The faults in the value of PEERD_FAULT. Raises UsageError."""
    return [_fault(part) for part in text.split(",")] if text else []


def of_successor(environment: Mapping[str, str]) -> dict[str, str]:
    """For a worker that takes the place of a dead one: what was to happen once has happened."""
    lasting = [fault.text for fault in parsed(environment.get(VARIABLE, "")) if fault.last == _EVER]
    return {**environment, VARIABLE: ",".join(lasting)} if VARIABLE in environment else dict(environment)


def _fault(text: str) -> Fault:
    form = _FORM.fullmatch(text)
    if form is None:
        raise UsageError(f"{VARIABLE}: {text!r} is no fault", "for example: blob.rename.before=kill@3")
    if form["action"] not in ACTIONS:
        raise UsageError(f"{VARIABLE}: no action is called {form['action']!r}", f"there are: {', '.join(ACTIONS)}")
    in_worker = form["points"].startswith(WORKER)
    points = frozenset(p for p in POINTS if fnmatchcase(p, form["points"]) and p.startswith(WORKER) == in_worker)
    if not points:
        raise UsageError(f"{VARIABLE}: no point is called {form['points']!r}", "peerd/machine/faults.py lists them")
    first = int(form["first"] or 1)
    last = first if not form["last"] else _EVER if form["last"] == "+" else int(form["last"][1:])
    return Fault(text, points, form["action"], first, last)


def _signal_self(number: signal.Signals) -> Callable[[str], None]:
    return lambda _: os.kill(os.getpid(), number)


def _refuse(number: int) -> Callable[[str], None]:
    def refuse(point: str) -> None:
        raise OSError(number, f"{os.strerror(number)} (injected at {point})")

    return refuse


def _hang(_: str) -> None:
    while True:
        time.sleep(3600.0)


def _trace(point: str) -> None:
    os.write(2, f"reached {point}\n".encode())


ACTIONS: Final[Mapping[str, Callable[[str], None]]] = {
    "kill": _signal_self(signal.SIGKILL),
    "stop": _signal_self(signal.SIGSTOP),
    "hang": _hang,
    "trace": _trace,
    "enospc": _refuse(errno.ENOSPC),
    "eio": _refuse(errno.EIO),
    "erofs": _refuse(errno.EROFS),
    "emfile": _refuse(errno.EMFILE),
}
