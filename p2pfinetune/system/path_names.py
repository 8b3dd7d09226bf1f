"""Paths as they can be told: the one place where the name of a file becomes text for people, JSON and messages.

On Linux a name is bytes, and Python holds those that are no UTF-8 as lone surrogates, which can be neither written nor
sent. A name may hold a line break or an escape, too. The result tells nobody how to open the file, only which it is.
"""

from __future__ import annotations

import re
from pathlib import PurePath

UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ESCAPED = range(0xDC80, 0xDD00)  # how Python holds the bytes 0x80 to 0xff (PEP 383)


def shown(path: str | PurePath) -> str:
    r"""The path, or a text that names one, with `\xe9` for bytes that are no UTF-8 and for what cannot be seen."""
    return UNSEEN.sub(_as_code, str(path))


def _as_code(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code in ESCAPED:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_plain(path: str | PurePath) -> bool:
    """Whether it can be written and sent as it is."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
