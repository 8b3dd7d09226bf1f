"""The bytes of one file as text: which encoding they are in, and how many of them could not be read in it.

Unicode is told by what it is: by its mark, or because the bytes are UTF-8, which other text hardly ever is by accident.
A few bytes that are no UTF-8 do not change that: a file that is being written ends in the middle of a character, a
log was cut, a mail was pasted. They become U+FFFD and are counted. What is not Unicode is decoded as Western European
where few of its bytes are above 127. Nothing is read from disk here.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

REPLACEMENT = "\ufffd"  # stands for what could not be read
FORMATTED = (b"%PDF-", b"{\\rtf", b"%!PS")  # formats whose bytes may look like text but are not what their reader sees
MAX_CONTROL_SHARE = 0.01  # random bytes have about a tenth, and text hardly any
MAX_NUL_SHARE = 1e-4  # of bytes: a slip in a long text; tables, archives and programs have many times more
MAX_HIGH_SHARE = 0.25  # of bytes above 127 in a Western European single-byte text; French has about 5 %, Cyrillic 80 %
SAMPLE = 65_536  # characters or bytes from the beginning by which the rest is judged
HIGH = re.compile(rb"[\x80-\xff]")
HIGH_BYTES = bytes(range(128, 256))
CONTROL = re.compile(r"[\0-\x07\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")  # but white space, backspace and escape
TAIL = 3  # bytes of an unfinished UTF-8 character, at most
MARKS = (  # UTF-32's little-endian mark begins with UTF-16's, so it is asked first
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class FileText:
    """The text of a file, with newlines as line ends and no byte-order mark."""

    text: str
    encoding: str
    """The name of a Python codec."""
    replaced: int = 0
    """Places that could not be read and stand as U+FFFD."""


def decode(data: bytes) -> FileText | None:
    """Unicode by its byte-order mark, then UTF-8, then CP1252; None for what is not text."""
    found = _marked(data) or _unmarked(data)
    return found if found and _looks_like_text(found.text) else None


def _marked(data: bytes) -> FileText | None:
    for mark, encoding in MARKS:
        if data.startswith(mark):
            found = decoded(data[len(mark) :], encoding)
            return found if _mostly(len(found.text) - found.replaced, found.replaced) else None
    return None


def _unmarked(data: bytes) -> FileText | None:
    data = _without_padding(data)
    if data.startswith(FORMATTED) or data.count(0) > MAX_NUL_SHARE * len(data):
        return None
    return _utf_8(data) or _western(data)


def _without_padding(data: bytes) -> bytes:
    """Without the NUL bytes that a file system puts behind a text whose end it has lost, or not written yet."""
    text = data.rstrip(b"\0")
    return text if b"\n" in text else data


def _utf_8(data: bytes) -> FileText | None:
    """None where bytes that are no UTF-8 are more than exceptions. An unfinished last character is none."""
    found = decoded(data, "utf-8")
    if not found.replaced:
        return found
    whole = len(found.text) - len(data.translate(None, HIGH_BYTES)) - found.replaced
    return found if whole > 0 and _mostly(whole, found.replaced - _unfinished(data)) else None


def _unfinished(data: bytes) -> bool:
    """Whether the last bytes are the beginning of a UTF-8 character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data[-TAIL - 1 :])
    return decoder.getstate()[0] != b""


def _mostly(good: int, bad: int) -> bool:
    return good >= 2 * bad


def _western(data: bytes) -> FileText | None:
    sample = data[:SAMPLE]
    if len(HIGH.findall(sample)) > MAX_HIGH_SHARE * len(sample):
        return None  # some other encoding: guessing would train on nonsense
    return decoded(data, "cp1252")


def decoded(data: bytes, encoding: str) -> FileText:
    """The text in that encoding, whatever it may look like. Raises LookupError for a codec that does not exist."""
    text = data.decode(encoding, errors="replace").replace("\0", REPLACEMENT)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    replaced = text.count(REPLACEMENT)
    return FileText(text, encoding, replaced - _its_own(data, encoding) if replaced else 0)


def _its_own(data: bytes, encoding: str) -> int:
    """The replacement characters that the file itself holds: Unicode can, and GB18030."""
    sign = REPLACEMENT.encode(encoding, errors="ignore")
    return data.count(sign) if sign else 0


def _looks_like_text(text: str) -> bool:
    sample = text[:SAMPLE]
    return len(CONTROL.findall(sample)) <= MAX_CONTROL_SHARE * len(sample)
