r"""The text of rich text (.rtf), without fonts, styles, pictures and headers.

Rich text is control words (`\par`), groups in braces, and letters in a code page (Microsoft, RTF Specification 1.9.1).
A group that begins with `\*`, or is one of those that hold no text of the document, is left out whole. Read here: the
patterns of the package for it take quadratic time on files that were made for that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from p2pfinetune.data.formats import charsets
from p2pfinetune.data.formats.parts import FileTexts, FormatError, opened

MAX_BYTES = 32 << 20
MAX_DEPTH = 1000  # groups inside one another
PICTURE = re.compile(rb"[0-9a-fA-F\r\n]{2000,}")  # hexadecimal digits, which would be looked at one by one
TOKEN = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})?[ ]?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
UNSEEN = frozenset(
    b"fonttbl colortbl stylesheet info pict object header headerl headerr headerf footer footerl footerr footerf ftnsep"
    b" listtable listoverridetable rsidtbl generator themedata datastore latentstyles xe tc fldinst annotation atnid"
    b" atnauthor nonshppict bkmkstart bkmkend filetbl revtbl".split()
)
SIGNS = {
    b"par": "\n", b"sect": "\n", b"page": "\n", b"line": "\n", b"row": "\n", b"tab": "\t", b"cell": " | ",
    b"nestcell": " | ", b"nestrow": "\n", b"emdash": "—", b"endash": "–", b"bullet": "•", b"lquote": "‘",
    b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”", b"emspace": " ", b"enspace": " ",
}  # fmt: skip
MARKS = {b"~": "\u00a0", b"_": "-", b"\n": "\n", b"\r": "\n", b"\\": "\\", b"{": "{", b"}": "}"}
OF_FONTS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gb18030", 136: "big5hkscs", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250",
}  # fmt: skip


def is_rtf(data: bytes) -> bool:
    """Whether bytes begin as rich text does."""
    return data.startswith(b"{\\rtf")


def rtf(data: bytes) -> FileTexts:
    """The text of the document."""
    if not is_rtf(data):
        raise FormatError("cannot be read as rich text")
    if len(data) > MAX_BYTES:
        raise FormatError(f"rich text larger than {MAX_BYTES >> 20} MiB")
    reading = _RtfReading()
    for found in TOKEN.finditer(PICTURE.sub(b"", data)):
        word, number, hexadecimal, mark, brace, letters = found.groups()
        if brace:
            reading.group(is_open=brace == b"{")
        elif word:
            reading.word(word, int(number) if number else None)
        elif hexadecimal:
            reading.letters(bytes.fromhex(hexadecimal.decode("ascii")))
        elif mark:
            reading.mark(mark)
        elif letters:
            reading.letters(letters)
    return opened(reading.text())


@dataclass(frozen=True, slots=True)
class _Group:
    """What holds inside a pair of braces."""

    is_seen: bool = True
    encoding: str = "cp1252"
    skip: int = 1
    """Letters behind a Unicode character that stand for it in old programs."""
    font: int = -1
    is_fonts: bool = False


@dataclass(slots=True)
class _RtfReading:
    """The text so far. Letters wait until their code page changes, since two bytes may be one letter."""

    pieces: list[str] = field(default_factory=list)
    waiting: bytearray = field(default_factory=bytearray)
    groups: list[_Group] = field(default_factory=lambda: [_Group()])
    fonts: dict[int, str] = field(default_factory=dict)
    left: int = 0
    """Letters still to be passed over."""

    def group(self, *, is_open: bool) -> None:
        self._decode()
        self.left = 0
        if not is_open:
            del self.groups[max(1, len(self.groups) - 1) :]
        elif len(self.groups) > MAX_DEPTH:
            raise FormatError("rich text nested too deep")
        else:
            self.groups.append(self.groups[-1])

    def word(self, word: bytes, number: int | None) -> None:
        self.left = 0
        now = self.groups[-1]
        if word in SIGNS:
            self._say(SIGNS[word])
        elif word == b"u" and number is not None:
            self._say(chr(number % 0x10000))
            self.left = now.skip
        elif word == b"uc" and number is not None:
            self._now(skip=min(number, 10))
        elif word == b"ansicpg" and number is not None:
            self._now(encoding=charsets.known(f"cp{number}") or "cp1252")
        elif word == b"f" and number is not None:
            self._now(font=number, encoding=self.fonts.get(number, self.groups[0].encoding))
        elif word == b"fcharset" and number is not None and now.is_fonts:
            self.fonts[now.font] = OF_FONTS.get(number, "cp1252")
        elif word in UNSEEN:
            self._now(is_seen=False, is_fonts=word == b"fonttbl")

    def mark(self, mark: bytes) -> None:
        if mark == b"*":
            self._now(is_seen=False)
        else:
            self._say(MARKS.get(mark, ""))

    def letters(self, letters: bytes) -> None:
        passed = min(self.left, len(letters))
        self.left -= passed
        if self.groups[-1].is_seen:
            self.waiting += letters[passed:]

    def text(self) -> str:
        self._decode()
        joined = "".join(self.pieces)
        return joined.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # two halves are one sign

    def _now(self, **changes: int | str | bool) -> None:
        self._decode()
        self.groups[-1] = replace(self.groups[-1], **changes)  # type: ignore[arg-type]
        if "encoding" in changes and "font" not in changes:
            self.groups[0] = replace(self.groups[0], encoding=self.groups[-1].encoding)

    def _say(self, sign: str) -> None:
        self._decode()
        if self.groups[-1].is_seen:
            self.pieces.append(sign)

    def _decode(self) -> None:
        if self.waiting:
            self.pieces.append(self.waiting.decode(self.groups[-1].encoding, "replace"))
            self.waiting.clear()
