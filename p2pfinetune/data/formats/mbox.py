"""Many mails in one file, as Unix, Thunderbird and exports of mail services keep them: each is a document.

A mail begins with a line "From SENDER DATE" (RFC 4155); a line of a mail that begins so is written ">From ". The
standard library's `mailbox` wants a file and locks it, so the bytes are cut here.
"""

from __future__ import annotations

import re

from p2pfinetune.data.formats.mail import mail
from p2pfinetune.data.formats.parts import FileTexts, FormatError, TextPart, summed
from p2pfinetune.data.formats.seam import read_by

SEPARATOR = re.compile(rb"^From [^\n]{0,200}\d\d?:\d\d[^\n]{0,40}\b(?:19|20)\d\d[^\n]{0,10}\r?\n", re.MULTILINE)
IS_HEADER = re.compile(rb"\A[A-Za-z][A-Za-z0-9-]{1,60}:[ \t\r\n]|\A>From ")
ESCAPED = re.compile(rb"^>(>*From )", re.MULTILINE)


def is_mbox(data: bytes) -> bool:
    """Whether bytes begin as a mail box does."""
    first = SEPARATOR.search(data[:400])
    return (
        first is not None and first.start() == 0 and IS_HEADER.search(data[first.end() : first.end() + 80]) is not None
    )


def mbox(data: bytes) -> FileTexts:
    """The texts of its mails, each with its number."""
    cuts = [found for found in SEPARATOR.finditer(data) if IS_HEADER.search(data[found.end() : found.end() + 80])]
    if not cuts:
        raise FormatError("no mail in it")
    ends = [found.start() for found in cuts[1:]] + [len(data)]
    read = [_mail(data[found.end() : end]) for found, end in zip(cuts, ends, strict=True)]
    parts = [TextPart(part.text, f":{number}") for number, one in enumerate(read, start=1) for part in one.parts]
    return FileTexts(
        parts=tuple(parts),
        left_out=summed(*(one.left_out for one in read)),
        encoding=next((one.encoding for one in read if one.encoding), ""),
        replaced=sum(one.replaced for one in read),
    )


def _mail(data: bytes) -> FileTexts:
    """One mail; if it cannot be read, its size under the reason."""
    try:
        return read_by("mail", lambda: mail(ESCAPED.sub(rb"\1", data)))
    except FormatError as error:
        return FileTexts(left_out={str(error): len(data)})
