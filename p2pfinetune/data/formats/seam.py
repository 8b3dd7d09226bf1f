"""The one place where any error of a library that reads files becomes a reason for people.

Parsers meet what their authors did not think of, and raise whatever comes: KeyError, RecursionError, zlib.error,
struct.error. A list of them would be wrong with the next version, and one file must never stop a reading. Errors of
this project are not hidden by that: the tests of every format see the exact text of a good file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from p2pfinetune.data.formats.parts import EXTRA, FormatError

T = TypeVar("T")
QUIET = ("pypdf",)  # libraries that log what a file holds; a file may hold anything


def read_by(kind: str, read: Callable[[], T]) -> T:
    """What `read` gives. Raises FormatError for every error: which package is missing, or that this is no such file."""
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        return read()
    except FormatError:
        raise
    except ImportError as error:
        raise FormatError(EXTRA) from error
    except Exception as error:  # the seam to libraries of formats, see above
        raise FormatError(f"cannot be read as {kind} ({type(error).__name__})") from error
