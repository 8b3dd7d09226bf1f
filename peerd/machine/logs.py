"""Logging, set up in one place: one line an event, fields behind it. Never keys, tensors or payloads.

2026-11-21T09:15:19Z info    perform: round finished round=3 accepted=true guard=2.31
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections import Counter
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO

from peerd.errors import StoreError
from peerd.pacing import TokenBucket

MAX_LOG_BYTES: Final = 5 * 2**20  # then it is renamed to .1 and begun anew; one old file is kept
MAX_FIELD: Final = 300  # characters of one field; strangers' words come in here
LINES_A_SECOND: Final = 2.0  # of one place in the code, lastingly
LINES_BURST: Final = 100.0  # and at once
PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class OneLine(logging.Formatter):
    """Time in UTC, level, part of the daemon, message, fields."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Line breaks are escaped, except in a traceback of ours."""
        when = self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ")
        part = record.name.removeprefix("peerd.")
        message = escaped(record.getMessage())
        given = {name: value for name, value in vars(record).items() if name not in PLAIN and name[0] != "_"}
        fields = "".join(f" {name}={field(value)}" for name, value in given.items())
        traceback = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{when} {record.levelname.lower():<7} {part}: {message}{fields}{traceback}"


class Patient(logging.Handler):
    """A full disk, or a terminal that has gone, costs log lines and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # as in its parent
        """Mistakes of ours are shown as ever."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """What could not be written before cannot be written now; why the daemon ends matters more."""
        with contextlib.suppress(OSError):
            super().close()


class ToFile(Patient, RotatingFileHandler):
    """The log file; made again if it was removed or moved away, but in no other folder than that where it began."""

    def __init__(self, log: Path) -> None:
        super().__init__(log, maxBytes=MAX_LOG_BYTES, backupCount=1)
        self._folder = log.parent.stat()

    def emit(self, record: logging.LogRecord) -> None:
        """A line that nobody can read any more would be lost. Whose home was deleted writes nothing into the next."""
        stream, log = self.stream, Path(self.baseFilename)
        if stream is not None and not _is(log, os.fstat(stream.fileno())) and _is(log.parent, self._folder):
            self.stream = None  # as its parent does: it is opened when it is needed
            with contextlib.suppress(OSError):
                stream.close()
        super().emit(record)


def _is(path: Path, known: os.stat_result) -> bool:
    """Whether that is what lies there now."""
    try:
        return os.path.samestat(known, path.stat())
    except OSError:
        return False


class ToStderr(Patient, logging.StreamHandler[TextIO]):
    """Standard error."""


class Sparing(logging.Filter):
    """So many lines a second of one place in the code: what strangers provoke must not hide the rest."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[tuple[str, int], TokenBucket] = {}
        self._left_out: Counter[tuple[str, int]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """The first line after some were left out says how many; there are only so many places in the code."""
        place = (record.pathname, record.lineno)
        bucket = self._places.setdefault(place, TokenBucket(LINES_A_SECOND, LINES_BURST))
        if not bucket.take(record.created):
            self._left_out[place] += 1
            return False
        if left_out := self._left_out.pop(place, 0):
            record.left_out = left_out
        return True


def escaped(text: str) -> str:
    """What would break the line or drive a terminal, as an escape sequence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def field(value: object) -> str:
    """As JSON, but a plain word without quotes."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    text = text[:MAX_FIELD]
    if isinstance(value, str) and not (text.isascii() and text.isprintable() and text and " " not in text):
        return json.dumps(text)
    return text


def set_up(log: Path) -> list[logging.Handler]:
    """To the log file, and to standard error unless that is the log file already. Undo with `take_down`."""
    try:
        handlers: list[logging.Handler] = [ToFile(log)]
    except OSError as error:
        raise StoreError(f"cannot write the log {log}: {error.strerror}", "look at its rights") from error
    if not is_stderr(log):
        handlers.append(ToStderr(sys.stderr))
    for handler in handlers:
        handler.setFormatter(OneLine())
        handler.addFilter(Sparing())
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("peerd").setLevel(logging.INFO)
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs what any stranger does as an error of ours
    return handlers


def take_down(handlers: list[logging.Handler]) -> None:
    """Close the file, and leave other handlers alone."""
    for handler in handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()


def is_stderr(path: Path) -> bool:
    """Whether what is written to standard error lands in that file."""
    try:
        return os.path.samestat(os.fstat(2), path.stat())
    except OSError:
        return False
