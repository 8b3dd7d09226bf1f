"""Errors that are ours or our user's. What peers do wrong is a value, never an exception.

PeerdError
+-- UsageError        bad input from a person               exit code 2
|   +-- TooLong       a prompt is more than the model takes
+-- NotRunning        the command needs a daemon            exit code 3
+-- AlreadyRunning    a daemon runs here already            exit code 4
+-- NotHealthy        the daemon makes no progress          exit code 5
|   +-- Unreachable   it runs, and its socket is gone
+-- Busy              too many ask it at once               exit code 1
+-- StoreError        the state on disk cannot be used      exit code 1
|   +-- LostError     gone or damaged: trying again is in vain
|   +-- HomeGone      deleted or moved under a running daemon
+-- TransportError    the network back end cannot start     exit code 1
+-- WorkerError       the worker refused or failed a job    exit code 1
+-- Unforeseen        a failure after which going on is no use    exit code 1
"""

from __future__ import annotations

from typing import ClassVar, Self


class PeerdError(Exception):
    """The message names the thing and the cause; `hint` is the next thing to type."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PeerdError):
    """Bad input from a person."""

    exit_code = 2
    code = "usage"


class TooLong(UsageError):
    """A prompt has more tokens than the model looks at."""

    code = "too-long"


class NotRunning(PeerdError):
    """The command needs a daemon and none runs here."""

    exit_code = 3
    code = "not-running"


class AlreadyRunning(PeerdError):
    """A daemon runs here already."""

    exit_code = 4
    code = "already-running"


class NotHealthy(PeerdError):
    """A daemon runs here but makes no progress, or does not answer."""

    exit_code = 5
    code = "not-healthy"


class Busy(PeerdError):
    """Too many ask the daemon at once, or wait for its worker."""

    code = "busy"


class Unreachable(NotHealthy):
    """A daemon runs here, as its lock says, but there is no control socket to ask it through."""


class StoreError(PeerdError):
    """The state on disk cannot be used."""

    code = "store"


class LostError(StoreError):
    """What was kept is gone or damaged; trying again does not bring it back."""


class HomeGone(StoreError):
    """The home at its path is not the one that the daemon holds: what is written there would be somebody else's."""


class TransportError(PeerdError):
    """The network back end cannot start."""

    code = "transport"


class WorkerError(PeerdError):
    """The worker refused or failed a job."""

    code = "worker"


class Unforeseen(PeerdError):
    """Something failed that should not, and the daemon cannot go on from there."""

    code = "unforeseen"

    @classmethod
    def of(cls, name: str, words: str) -> Self:
        return cls(
            f"the daemon ended in order, because it cannot go on from this: {name} failed ({words})",
            "start it again: peerd start   it goes on from what is recorded; the log has more, please report it",
        )
