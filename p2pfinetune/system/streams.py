"""The three standard streams of a program of ours: always there, and never the reason why it ends.

`settle` is the first thing that each of our programs does. What is closed (cron, some supervisors, `>&-`) is opened on
the null device: otherwise the next file or pipe that the process opens gets the number 0, 1 or 2, and a child or a
library then writes into it, or aborts. And a write to standard output or error that fails (the reader of a pipe left,
the disk is full, the terminal is gone) is swallowed and remembered, beneath all buffers, so that neither a print nor
the interpreter's last flush can turn an exit code into another one or end a program that serves. A command that has
something to say asks `lost` at its end whether that arrived.

What the terminal's encoding has no sign for (our own dashes, ellipses and bars on one that is not UTF-8) is written in
plain ASCII, by the error handler PLAIN, and not raised.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from typing import Final, TextIO

NUMBERS: Final = (0, 1, 2)
PLAIN: Final = "peerd-plain"
"""The name of the error handler of both outputs."""
_PYTHONS: Final = ("strict", "surrogateescape", "backslashreplace")
"""What streams do by themselves; anything else was asked for, with PYTHONIOENCODING."""
_ASCII: Final = {"–": "-", "—": "-", "…": "...", "→": "->", "±": "+-", "×": "x", "█": "#"}


class Lasting(io.FileIO):
    """The file beneath a standard stream; a write that fails is remembered, and counts as written."""

    trouble: OSError | None = None

    def write(self, data: object, /) -> int:
        """As in its parent, but never raises OSError."""
        try:
            return super().write(data)  # type: ignore[arg-type]  # any buffer, as there
        except OSError as error:
            if self.trouble is None:
                self.trouble = error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def settle() -> None:
    """Open what is closed and make the two outputs last. A second call changes nothing."""
    for number in NUMBERS:
        _open_if_closed(number)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = _lasting(sys.stdout, 1)
    sys.stderr = _lasting(sys.stderr, 2)


def lost(stream: TextIO | None) -> OSError | None:
    """Why the first write to a settled stream failed; None if none did. Flush it before."""
    beneath = _beneath(stream)
    return beneath.trouble if beneath is not None else None


def left(stream: TextIO | None) -> bool:
    """Whether the reader of a pipe has seen enough: no trouble at all, `| head` does that."""
    return isinstance(lost(stream), BrokenPipeError)


def in_plain_signs(error: UnicodeError) -> tuple[str, int]:
    """The error handler PLAIN: what stands for the characters that could not be encoded, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


codecs.register_error(PLAIN, in_plain_signs)


def _plain(character: str) -> str:
    """Ours by the table, a letter without its accents; a part of a bar or frame is a line, all else a question mark."""
    if character in _ASCII:
        return _ASCII[character]
    if "─" <= character <= "▟":  # box drawing and block elements
        return "|" if character in "│┃║" else "-"
    bare = "".join(c for c in unicodedata.normalize("NFKD", character) if c.isascii())
    return bare or "?"


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        found = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
        if found != number:
            os.dup2(found, number)
            os.close(found)
        os.set_inheritable(number, True)  # for children, who need the three as much


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is not None and _beneath(stream) is not None:
        return stream
    file = Lasting(number, "w", closefd=False)
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors=PLAIN)
    stream.flush()
    unbuffered = bool(getattr(stream, "write_through", False))  # as with PYTHONUNBUFFERED
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),  # as the interpreter does it
        encoding=stream.encoding,
        errors=PLAIN if stream.errors in _PYTHONS else stream.errors,
        line_buffering=bool(getattr(stream, "line_buffering", False)),
        write_through=unbuffered,
    )


def _beneath(stream: TextIO | None) -> Lasting | None:
    buffer = getattr(stream, "buffer", None)
    found = getattr(buffer, "raw", buffer)
    return found if isinstance(found, Lasting) else None
