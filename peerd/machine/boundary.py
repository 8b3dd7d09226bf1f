"""The boundary behind which every task of the daemon stands: what fails there is recorded and ends nothing else.

A failure here is one that nobody foresaw: a bug of ours or of a library, reached perhaps by what a stranger said. What
is foreseen (a disk that refuses, a peer that lies, a worker that dies) is a value or a PeerdError where it happens. A
failure is logged with its traceback, counted under the name of what failed and shown in `peerd status`, its JSON, the
metrics and, while it is fresh, in health. What then becomes of the task is its policy:

an effect                   its answer is a failure that the core knows how to go on from (`Performer.failed`)
recording for good          (a checkpoint, a round, an announcement with what it spends) the daemon ends in order: what
                            is on disk may not be what it believes, and the next start asks the disk
an event                    one that the core cannot take is left out; if the core waits for it, or if time stands
                            still, the daemon ends in order
tick, loop watch, machine   begun again after a pause
watch, home watch, control
socket's, text watch, book
of what was sent, discovery
worker                      its process is killed and another started, as when it dies; what only a person can mend
                            ends the daemon
network                     before it listens, the daemon ends; later the next event is read, and a back end
                            that is down is started again
control interface           before it serves, the daemon ends; later it is made again
import of the network       left out: the network says by itself what it lacks
stop of the worker, of the  left out: the end goes on
network, of the book
a request, a watcher        of the control interface: answered by status 500, or cut
a callback of the loop      recorded
the home is gone            (`HomeGone`, whatever was to be written) foreseen: the daemon ends and says so

Policies differ by one question: may what is believed and what is on disk differ now? If so, nothing in memory is
worth keeping, and the way back is a new start from what is durable ("crash-only software", Candea and Fox, 2003). If
not, a daemon of somebody's laptop that ends is worse than one that lacks a part, so the part is begun again or left
out.

"Ends in order" is: everything closed, exit code 1, and words that say so, which the lock keeps for the next
`peerd status`. A start after it goes on from what is durable.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from peerd.errors import HomeGone, PeerdError, Unforeseen
from peerd.machine.logs import escaped
from peerd.pacing import Backoff
from peerd.status import FailuresNow

MAX_NAMES: Final = 64  # of what failed; there are about forty, anything beyond is counted as "other"
MAX_WORDS: Final = 200  # characters of a failure in words; strangers' words may be in it
STEADY_SECONDS: Final = 60.0  # a task that ran so long is not counted as failing again and again
PAUSES: Final = Backoff(first=0.1, longest=60.0)

_log = logging.getLogger("peerd.failures")


class Failures:
    """What failed since the start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._counts = Counter[str]()
        self._last, self._last_at = "", 0.0

    def note(self, name: str, error: BaseException) -> str:
        """Record it; returns it in words."""
        words = described(error)
        known = name in self._counts or len(self._counts) < MAX_NAMES
        self._counts[name if known else "other"] += 1
        self._last, self._last_at = f"{name}: {words}", self.clock()
        _log.error("%s failed, which nobody foresaw", name, exc_info=error)
        return words

    def now(self) -> FailuresNow:
        if not self._counts:
            return FailuresNow()
        return FailuresNow(
            counts=dict(sorted(self._counts.items())),
            last=self._last,
            last_seconds=round(max(0.0, self.clock() - self._last_at), 1),
        )


def unforeseen(error: BaseException) -> bool:
    """Whether it failed, in the task that is running: not if the task is cancelled or the process told to leave."""
    if isinstance(error, HomeGone):
        return False  # foreseen, and the end of everything
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()  # else somebody else's cancellation came out here
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup((KeyboardInterrupt, SystemExit)) is None
    return isinstance(error, Exception)


def ours(error: BaseException) -> bool:
    """Whether there is an error in it that is told to a person."""
    return isinstance(error, PeerdError) or (
        isinstance(error, BaseExceptionGroup) and error.subgroup(PeerdError) is not None
    )


def described(error: BaseException) -> str:
    """In a few words, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return escaped(f"{type(error).__name__}: {error}".removesuffix(": "))[:MAX_WORDS]


def never(_: BaseException) -> bool:
    """Nothing that fails there ends the daemon."""
    return False


class Guarded:
    """A body whose failure is recorded, and behind which things go on.

    What is `fatal` is raised: a PeerdError as it is, all else as Unforeseen. Where the body failed, `error` is how and
    `words` say it.
    """

    def __init__(self, name: str, failures: Failures, *, fatal: Callable[[BaseException], bool] = never) -> None:
        self._name, self._failures, self._fatal = name, failures, fatal
        self.error: BaseException | None = None
        self.words = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None or not unforeseen(error):
            return False
        if self._fatal(error):
            if ours(error):
                return False
            raise Unforeseen.of(self._name, described(error)) from error
        self.error, self.words = error, self._failures.note(self._name, error)
        return True


def for_good(what: str) -> Guarded:
    """What is recorded in the body must be on disk as it is believed to be: if that is in doubt, it is fatal."""
    return Guarded(f"recording {what}", Failures(lambda: 0.0), fatal=lambda _: True)


async def lasting(
    name: str,
    run: Callable[[], Awaitable[None]],
    failures: Failures,
    *,
    fatal: Callable[[BaseException], bool] = never,
    before_again: Callable[[str], Awaitable[None]] | None = None,
    pauses: Backoff = PAUSES,
) -> None:
    """Run a task to its end, again after each failure that is not `fatal`; `before_again` is told of the one before."""
    deaths, reason, began = 0, "", failures.clock()
    while True:
        with Guarded(name, failures, fatal=fatal) as guard:
            if reason:
                await asyncio.sleep(pauses.after(deaths))
                if before_again is not None:
                    await before_again(reason)
                reason = ""
            began = failures.clock()
            return await run()
        deaths = 1 if failures.clock() - began > STEADY_SECONDS else deaths + 1
        reason = guard.words


async def once(name: str, run: Callable[[], Awaitable[object]], failures: Failures) -> None:
    """Run a task that nobody needs the result of; a failure is recorded, and that is all."""
    with Guarded(name, failures):
        await run()


class Tasks:
    """The tasks of a daemon: each has a name, under which it fails."""

    def __init__(self, group: asyncio.TaskGroup, failures: Failures) -> None:
        self._group, self._failures = group, failures
        asyncio.get_running_loop().set_exception_handler(self._nobody_waited)

    def lasting(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        fatal: Callable[[BaseException], bool] = never,
        before_again: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        task = lasting(name, run, self._failures, fatal=fatal, before_again=before_again)
        self._group.create_task(task, name=name)

    def once(self, name: str, run: Callable[[], Awaitable[object]]) -> None:
        self._group.create_task(once(name, run, self._failures), name=name)

    def _nobody_waited(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback of the loop failed, or a task that nobody looked at."""
        error = context.get("exception")
        self._failures.note("callback", error if error is not None else RuntimeError(context.get("message", "?")))
