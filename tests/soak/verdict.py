"""Whether a run was good: pure functions of what was seen. Times are seconds of the run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

PATIENCE_SECONDS = 60.0  # without a finished round
RECOVERY_SECONDS = 60.0  # after a kill, a stop or a suspension is over, before patience begins
WARM_SECONDS = 120.0  # of a process: what it allocates before is its start
GROWTH = 0.10  # of memory, in ten minutes, where it has run long enough to tell
GROWTH_MIB = 24.0  # what ten minutes may add in any case: allocators and caches that fill
TELLING_SECONDS = 240.0  # a process that ran shorter says nothing about growth
DESCRIPTORS = 16  # more at the end than in the middle
DISK_MIB = 16.0  # likewise, of one home


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at one daemon."""

    at: float
    rounds: int
    """Finished in all its lives; the store keeps them."""
    pid: int
    rss: int
    """Bytes of the daemon."""
    worker: int
    """Process id; 0: none."""
    worker_rss: int
    descriptors: int
    disk: int
    """Bytes of the home."""
    answers: bool = True


@dataclass(slots=True)
class Life:
    """What happened to one honest peer."""

    name: str
    seen: list[Seen] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    """From being killed, stopped or suspended until it was started or let go on."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The longest time that counted in which a peer finished no round."""

    seconds: float
    at: float


def longest_gap(life: Life, until: float, begins: float) -> Gap:
    """The longest time without a finished round, where absence and the minute after it do not count."""
    finished = [(now.at, now.at) for before, now in pairwise(life.seen) if now.rounds > before.rounds]
    excused = [(start, end + RECOVERY_SECONDS) for start, end in life.away]
    longest, since = Gap(0.0, begins), begins
    for start, end in sorted([*finished, *excused, (until, until)]):
        if start - since > longest.seconds:
            longest = Gap(start - since, since)
        since = max(since, end)
    return longest


def growth(points: Sequence[tuple[float, float]]) -> float | None:
    """Units in ten minutes, of one process, by Theil and Sen's slope: a single spike says nothing. None: too short."""
    begun = points[0][0] + WARM_SECONDS if points else 0.0
    late = [(at, value) for at, value in points if at >= begun]
    if not late or late[-1][0] - late[0][0] < TELLING_SECONDS:
        return None
    thinned = late[:: max(1, len(late) // 60)]
    slopes = [(y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(thinned) for x2, y2 in thinned[i + 1 :] if x2 > x1]
    return statistics.median(slopes) * 600.0


def processes(looks: Iterable[tuple[float, int, int]]) -> list[list[tuple[float, float]]]:
    """(time, process id, bytes) in order, as (time, MiB) of each process in turn; 0 is no process."""
    apart = groupby((look for look in looks if look[1]), key=lambda look: look[1])
    return [[(at, size / 2**20) for at, _, size in group] for _, group in apart]


def faults_of(life: Life, until: float, begins: float) -> list[str]:
    """What was not as promised, in sentences; empty where all was well."""
    found = []
    gap = longest_gap(life, until, begins)
    if gap.seconds > PATIENCE_SECONDS:
        found.append(f"{life.name}: no round finished for {gap.seconds:.0f} s, from {gap.at:.0f} s on")
    memory = {
        "daemon": processes((seen.at, seen.pid, seen.rss) for seen in life.seen),
        "worker": processes((seen.at, seen.worker, seen.worker_rss) for seen in life.seen),
    }
    for what, lives in memory.items():
        for points in lives:
            grown, usual = growth(points), statistics.median(size for _, size in points)
            if grown is not None and grown > max(GROWTH_MIB, GROWTH * usual):
                found.append(f"{life.name}: the {what} grows by {grown:.0f} MiB in ten minutes (at {usual:.0f} MiB)")
    found += _flat(life, "descriptors", {s.at: float(s.descriptors) for s in life.seen if s.answers}, DESCRIPTORS)
    found += _flat(life, "MiB of disk", {s.at: s.disk / 2**20 for s in life.seen}, DISK_MIB)
    return found


def _flat(life: Life, unit: str, values: Mapping[float, float], allowed: float) -> list[str]:
    """The last quarter against the second one."""
    if not values:
        return [f"{life.name}: never seen"]
    last = max(values)
    middle = [value for at, value in values.items() if last * 0.25 <= at < last * 0.5]
    end = [value for at, value in values.items() if at >= last * 0.75]
    if not middle or not end:
        return []
    grown = statistics.median(end) - statistics.median(middle)
    return [f"{life.name}: {grown:.0f} {unit} more at the end"] if grown > allowed else []
