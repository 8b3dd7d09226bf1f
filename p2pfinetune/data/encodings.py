"""The bytes of one file as text: which encoding they are in, and how many of them could not be read in it.

Unicode is told by what it is: by its mark, or because the bytes are UTF-8, which other text hardly ever is by accident.
A few bytes that are no UTF-8 do not change that: a file that is being written ends in the middle of a character, a
log was cut, a mail was pasted. They become U+FFFD and are counted. UTF-16 without its mark is known by its NUL bytes,
seven-bit Japanese and Korean by their escapes. For all other text `guess` weighs what it may be, which `look` returns:
its folder has a say in that. Nothing is read from disk here.

The order of the questions is that of their certainty: a mark, an escape or NUL bytes, valid UTF-8, and only then what
is weighed. A mark that lies (UTF-16's before a program) is found out by its text, which then is none.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from p2pfinetune.data.guess import REPLACEMENT, Evidence, alone, weigh
from p2pfinetune.data.letters import SHAPED

FORMATTED = (b"%PDF-", b"{\\rtf", b"%!PS")  # formats whose bytes may look like text but are not what their reader sees
MAX_CONTROL_SHARE = 0.01  # random bytes have about a tenth, and text hardly any
MAX_NUL_SHARE = 1e-4  # of bytes: a slip in a long text; tables, archives and programs have many times more
SAMPLE = 65_536  # characters or bytes from the beginning by which the rest is judged
HIGH_BYTES = bytes(range(128, 256))
CONTROL = re.compile(r"[\0-\x07\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f]")  # but white space, backspace and escape
CONTROL_BYTES = bytes(byte for byte in range(128) if CONTROL.fullmatch(chr(byte)))
ESCAPES = (
    (b"\x1b$B", "iso2022_jp"),
    (b"\x1b$@", "iso2022_jp"),
    (b"\x1b(I", "iso2022_jp_ext"),
    (b"\x1b$)C", "iso2022_kr"),
)
STRANGE = frozenset({"Cc", "Cn", "Co", "Cs"})  # controls, and what is no character
TAIL = 3  # bytes of an unfinished UTF-8 character, at most
NO_NAMES: Mapping[PurePath, str] = MappingProxyType({})
EVERYWHERE = PurePath()  # stands for all files where encodings are named
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
    """The text of bytes that have no neighbours; None for what is no text, or in an encoding that nothing tells."""
    found = look(data)
    if isinstance(found, Evidence):
        encoding = alone(found)
        return decoded(without_padding(data), encoding) if encoding else None
    return found


def look(data: bytes, named: str = "") -> FileText | Evidence | None:
    """Text that tells its encoding itself; what speaks for others (see `guess.settle`); None for what is no text.

    `named` is what somebody said of text that is not Unicode; nothing is weighed against it.
    """
    if found := _marked(data):
        return found if _looks_like_text(found.text) else None
    unpadded = without_padding(data)
    if unpadded.startswith(FORMATTED):
        return None
    if named:
        return _named(unpadded, data, named)
    if unpadded.count(0) > MAX_NUL_SHARE * len(unpadded):
        return _wide(data)
    found = _escaped(unpadded) or _utf_8(unpadded)
    if found:
        return found if _looks_like_text(found.text) else None
    return weigh(unpadded) if _bytes_of_text(unpadded[:SAMPLE]) else None


def _named(data: bytes, whole: bytes, encoding: str) -> FileText | None:
    """In the encoding that somebody named, unless it is UTF-8; seven-bit and wide ones would pass for ASCII."""
    nul = data.count(0) > MAX_NUL_SHARE * len(data)
    found = None if nul or (data.isascii() and b"\x1b" in data) else _utf_8(data)
    found = found or decoded(whole if nul else data, encoding)
    return found if _looks_like_text(found.text) else None


def named(path: PurePath, encodings: Mapping[PurePath, str]) -> str:
    """What is said of a file: by its own path, by the nearest folder around it, of all; empty if nothing is."""
    return next((encodings[one] for one in (path, *path.parents, EVERYWHERE) if one in encodings), "")


def is_encoding(name: str) -> bool:
    """Whether Python reads text in it."""
    try:
        return isinstance(b"a".decode(name, errors="replace"), str)
    except (LookupError, ValueError):  # zlib and its like are no encodings of text, and `undefined` is one of none
        return False


def _marked(data: bytes) -> FileText | None:
    for mark, encoding in MARKS:
        if data.startswith(mark):
            found = decoded(data[len(mark) :], encoding)
            return found if len(found.text) >= 3 * found.replaced else None
    return None


def without_padding(data: bytes) -> bytes:
    """Without the NUL bytes that a file system puts behind a text whose end it has lost, or not written yet."""
    text = data.rstrip(b"\0")
    return text if b"\n" in text else data


def _utf_8(data: bytes) -> FileText | None:
    """None if less is whole than not; in other encodings a tenth of it is, at most, by accident."""
    found = decoded(data, "utf-8")
    if not found.replaced:
        return found
    whole = len(found.text) - len(data.translate(None, HIGH_BYTES)) - found.replaced
    return found if whole > 0 and whole >= found.replaced - _unfinished(data) else None


def _unfinished(data: bytes) -> bool:
    """Whether the last bytes are the beginning of a UTF-8 character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(data[-TAIL - 1 :])
    return decoder.getstate()[0] != b""


def _escaped(data: bytes) -> FileText | None:
    """Seven-bit encodings, which would pass for ASCII."""
    for escape, encoding in ESCAPES:
        if escape in data and data.isascii():
            found = decoded(data, encoding)
            if not found.replaced and not found.text.isascii():
                return found
    return None


def _wide(data: bytes) -> FileText | None:
    """UTF-16 without a mark: the order of bytes in which nothing is strange and more is plain."""
    found = max((decoded(data, encoding) for encoding in ("utf-16-le", "utf-16-be")), key=lambda one: _plain(one.text))
    sample = found.text[:SAMPLE]
    strange = sum(unicodedata.category(sign) in STRANGE for sign in sample) - sample.count("\n") - sample.count("\t")
    return found if strange <= MAX_CONTROL_SHARE * len(sample) and _plain(sample) else None


def _plain(text: str) -> int:
    """The other order of bytes makes of these signs what hardly any text has."""
    return sum(sign.isascii() or sign in SHAPED for sign in text[:SAMPLE])


def _bytes_of_text(data: bytes) -> bool:
    return len(data) - len(data.translate(None, CONTROL_BYTES)) <= MAX_CONTROL_SHARE * len(data)


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
