"""Answers in the making, which take turns with one another and with whatever else the worker does.

A turn is one pass of the model: a part of a prompt that is read, or one token. The worker does its jobs one at a time;
at the points where a long one may be interrupted, answers get their turns, and while they do the job waits. How many:
what the job took since the last such point earns them time, so that over any while they have had `share` of it.

    job ......step ......| turn turn turn |......step ......| turn turn turn |......step
               1 - share        share

Who has had no turn yet goes first, and has it whatever was earned: so it waits for one step at most. So many of these
are given in one interruption as there can be answers under way; who floods the worker with questions that end at once
(too long, or taken back) would keep the job from ever going on. Then each in turn, so that a short answer does not wait
for a long one. With nothing else to do, turns follow upon one another.

Pure but for the clock that is given; which process does a turn, and where its pieces go, is `child`'s affair.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from peerd.worker.messages import Respond, Responded, Spoken

USUAL_SHARE = 0.8
UNEARNED = 4  # first turns in one interruption: answers that are under way at once (`process.RESPONSES_AT_ONCE`)


class Running:
    """One answer in the making."""

    def __init__(self, job: Respond) -> None:
        self.job = job
        self.passes: Iterator[Spoken | Responded | None] | None = None
        """Set with its first turn."""


class Rota:
    """Whose turn it is, and whether there is time for one."""

    def __init__(self, clock: Callable[[], float], share: float = USUAL_SHARE) -> None:
        self._clock, self.share = clock, share
        self._line: deque[Running] = deque()
        self._earned = 0.0  # seconds for turns; less than nothing if the last turn took longer than that
        self._worked_since = self._turn_since = clock()
        self._unearned = 0  # first turns since the job was interrupted

    def __len__(self) -> int:
        return len(self._line)

    def add(self, job: Respond) -> None:
        """It has the next turn."""
        self._line.appendleft(Running(job))

    def remove(self, job_id: int) -> Running | None:
        """Nobody waits for it any more; None if it had ended."""
        found = next((running for running in self._line if running.job.id == job_id), None)
        if found is not None:
            self._line.remove(found)
        return found

    def take(self) -> Running:
        """Who is to have the turn that begins now; `put_back` if it has not ended with it."""
        self._turn_since = self._clock()
        running = self._line.popleft()
        self._unearned += running.passes is None
        return running

    def put_back(self, running: Running) -> None:
        self._line.append(running)

    def turn_over(self) -> None:
        """What it took is off what was earned."""
        self._earned -= self._clock() - self._turn_since

    def work_begins(self) -> None:
        """Something else is done from now on."""
        self._worked_since = self._clock()
        if not self._line:
            self._earned = 0.0

    def work_pauses(self) -> None:
        """What it took is worth some turns; to those that are there."""
        self._unearned = 0
        rest = 1.0 - self.share
        worked = self._clock() - self._worked_since
        self._earned += worked * self.share / rest if rest > 0 else math.inf

    def is_time(self) -> bool:
        """Whether somebody is to have a turn before the work goes on."""
        if not self._line:
            return False
        return self._earned > 0 or (self._line[0].passes is None and self._unearned < UNEARNED)
