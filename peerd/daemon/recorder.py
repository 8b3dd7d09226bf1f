"""The flight recorder: the last events of the core, from a state on, so that what happened can be run again.

A ring that forgets its oldest event would have no state to begin from. So events are kept in two stretches: each begins
with the state of its moment, which costs nothing (states are frozen and share what has not changed), and when the newer
one is full, the older one goes. A record then always reaches back at least one stretch and at most two.

Bounded by events and by weight: an announcement holds up to 4 KB of addresses, a tick next to nothing. With ticks alone
a stretch is 34 minutes long; under a flood of the largest announcements both take 8 MB.

    begun, events ... (older, full)     begun, events ... (newer, filling)     now
    |---------------------------------->|------------------------------------->|
    a record begins here, or with the newer stretch while there is no older one

It works because the core is deterministic: state and events are the whole cause of what happened (replay as of state
machines, Schneider 1990). What the core does not see, a record cannot show; a bug of the network has to be looked for
in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from p2pfinetune.system.durable import unfinished, write_whole
from peerd.core.effects import AnyEffect
from peerd.core.events import AnnouncementHeard, AnyEvent, PeerFound, Ticked
from peerd.core.node import Node
from peerd.machine.apart import apart
from peerd.machine.boundary import Failures
from peerd.testing.invariants import broken
from peerd.testing.replay import Record, encoded, taken

EVENTS = 2048  # of one stretch
WEIGHT = 4 * 2**20  # bytes of one stretch, as they are estimated
SMALL = 200  # bytes of an event that holds no addresses
PAUSE_SECONDS = 600.0  # between two records that nobody asked for: a stranger who is the cause must not fill the disk
SETTLE_SECONDS = 3.0  # of the end; a record of a full ring takes about one
KEPT = 4  # records in the home; the oldest goes


class Broken(Exception):
    """An invariant of the core does not hold."""


_log = logging.getLogger("peerd.recorder")


class Ring:
    """The last events and the states they began from. Everything is called from the daemon's loop."""

    def __init__(self, begun: Node, program: str) -> None:
        self._program = program
        self._older: tuple[Node, list[AnyEvent]] | None = None
        self._newer: tuple[Node, list[AnyEvent]] = (begun, [])
        self._weight = 0

    def add(self, node: Node, event: AnyEvent) -> None:
        """`event` is about to be taken in the state `node`."""
        if len(self._newer[1]) >= EVENTS or self._weight >= WEIGHT:
            self._older, self._newer, self._weight = self._newer, (node, []), 0
        self._newer[1].append(event)
        self._weight += weight(event)

    def record(self, why: str) -> Callable[[], Record]:
        """What makes the record of now; it may be called in another thread, while more events are taken."""
        begun, events = self._older or self._newer
        events = [*events, *(self._newer[1] if self._older is not None else [])]
        return lambda: taken(begun, events, program=self._program, why=why)

    @property
    def events(self) -> int:
        """How many a record would have."""
        return len(self._newer[1]) + (len(self._older[1]) if self._older is not None else 0)


def weight(event: AnyEvent) -> int:
    """Bytes that it keeps, about; never less than it can be made to keep by a stranger."""
    match event:
        case AnnouncementHeard(announcement=said):
            return 2 * SMALL + sum(map(sys.getsizeof, (*said.addresses, said.name)))
        case PeerFound(addresses=addresses):
            return SMALL + sum(map(sys.getsizeof, addresses))
        case Ticked(connected=connected):
            return SMALL + sys.getsizeof(connected)
        case _:
            return SMALL


class FlightRecorder:
    """The witness of a daemon's core: keeps the ring, looks at invariants if asked, and writes records to the home.

    A record is written if the core raised or an invariant does not hold, at most one in ten minutes; and whenever the
    process gets SIGUSR1. `run` is the task that writes, so that no event waits for a disk.
    """

    def __init__(
        self,
        begun: Node,
        program: str,
        folder: Path,
        clock: Callable[[], float],
        failures: Failures,
        require: Callable[[], None] = lambda: None,
    ) -> None:
        """`require` raises HomeGone if the home is no longer ours."""
        self.ring = Ring(begun, program)
        self.checks = False
        """Whether the invariants are looked at after every event. It costs about as much as the event."""
        self._folder, self._clock, self._failures, self._require = folder, clock, failures, require
        self._wanted, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._why, self._not_before = "", float("-inf")

    def takes(self, node: Node, event: AnyEvent) -> None:
        self.ring.add(node, event)

    def took(self, before: Node, event: AnyEvent, node: Node, effects: Sequence[AnyEffect]) -> None:
        if self.checks and (faults := broken(node, effects, before)):
            self._failures.note(f"invariant at {type(event).__name__}", Broken("; ".join(faults)))
            self.want(f"an invariant does not hold after {type(event).__name__}: {faults[0]}")

    def raised(self, event: AnyEvent, words: str) -> None:
        self.want(f"the core raised at {type(event).__name__}: {words}")

    def want(self, why: str, *, asked: bool = False) -> None:
        """A record is to be written. Nobody's asking is heeded once in PAUSE_SECONDS: a stranger may be the cause."""
        now = self._clock()
        if not asked:
            if now < self._not_before:
                return
            self._not_before = now + PAUSE_SECONDS
        self._why = why
        self._wanted.set()
        self._idle.clear()

    async def run(self) -> None:
        """Write what is wanted, for ever."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            why, make = self._why, self.ring.record(self._why)
            try:
                path = await apart(lambda make=make: self._written(encoded(make())))
                _log.warning("what happened lately is in %s (%s)", path, why)
            finally:  # the end of the daemon waits for nothing that has failed
                if not self._wanted.is_set():
                    self._idle.set()

    async def settled(self) -> None:
        """Once what is wanted is written: the end of a daemon whose core raised waits so, SETTLE_SECONDS at most."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), SETTLE_SECONDS)

    def _written(self, data: bytes) -> Path:
        """Raises HomeGone or OSError, which the boundary of this task records."""
        self._require()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        numbers = sorted(int(old.stem) for old in self._folder.glob("*.record") if old.stem.isdecimal())
        path = self._folder / f"{numbers[-1] + 1 if numbers else 1:06}.record"
        for left in unfinished(path):
            left.unlink(missing_ok=True)
        write_whole(path, data)
        for number in numbers[: max(0, len(numbers) + 1 - KEPT)]:
            (self._folder / f"{number:06}.record").unlink(missing_ok=True)
        return path


def records_at_signal(recorder: FlightRecorder) -> None:
    """SIGUSR1 asks for a record, in the running loop; by itself it would end the process."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, partial(recorder.want, "SIGUSR1", asked=True))
