"""Of a mail what its author wrote: the subject, if he chose it, and the body without quotes, signature, attachments.

The standard library takes the mail apart; what stands in it is decoded here, by each part's own charset, and by content
where that is missing or wrong. Of alternatives the plain one is read, or the page if there is no other. A subject that
begins with "Re:" or "Fwd:" is a quote too, and no part of the text. Attached files and mails are left out and counted
by their size; they are opened where they lie as files of their own.

A mail without a suffix, as in a Maildir, is known by its headers: an author, a date, and one that only programs write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message
from typing import Any

from p2pfinetune.data.encodings import FileText, decode, look
from p2pfinetune.data.formats import charsets
from p2pfinetune.data.formats.page import page
from p2pfinetune.data.formats.parts import FileTexts, FormatError, TextPart, summed, without_zeros
from p2pfinetune.data.formats.quotes import QUOTED, SIGNATURE, own_words

ATTACHMENT = "attachments of mails"
MAX_BOUNDARIES = 200  # parts inside one another cost their number for every line
MAX_HEADER = 1000  # characters of a subject
BEGINNING = 16_384
IS_AUTHOR = re.compile(rb"^(From|Return-Path|Sender):[ \t]", re.MULTILINE | re.IGNORECASE)
IS_DATED = re.compile(rb"^Date:[ \t]", re.MULTILINE | re.IGNORECASE)
BY_PROGRAMS = re.compile(
    rb"^(Message-ID|Received|Delivered-To|MIME-Version|X-Mailer|Envelope-To):[ \t]", re.MULTILINE | re.IGNORECASE
)
SIZE = re.compile(rb"\d{1,9}[ ]*\r?")
FIRST_HEADER = re.compile(rb"\A(\xef\xbb\xbf)?[A-Za-z][A-Za-z0-9-]{1,60}:[ \t]")
REPLY = re.compile(
    r"\s*(\[[^\]]{1,60}\]\s*)?(re|aw|sv|vs|antw|antwort|tr|rif|odp|ynt|fwd?|wg|rv|enc|i)\s*(\[\d+\])?\s*:.*",
    re.IGNORECASE,
)
LIST_TAG = re.compile(r"\A(\[[^\]]{1,60}\]\s*)+")
FLOWED = re.compile(r"(>*)( ?)(.*)")
QUOTING_CLASSES = frozenset(
    {"gmail_quote", "gmail_extra", "moz-cite-prefix", "yahoo_quoted", "gmail_attr", "protonmail_quote"}
)
SIGNATURE_CLASSES = frozenset(
    {"gmail_signature", "moz-signature", "gmail_signature_prefix", "protonmail_signature_block"}
)
PASSED_ON = re.compile(r"(forwarded message|weitergeleitete|transféré|reenviado|inoltrato)", re.IGNORECASE)


def is_mail(data: bytes) -> bool:
    """Whether bytes begin with the headers of a mail."""
    if not FIRST_HEADER.search(data[:80]):
        return False
    head = data[:BEGINNING].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    return all(pattern.search(head) for pattern in (IS_AUTHOR, IS_DATED, BY_PROGRAMS))


def is_emlx(data: bytes) -> bool:
    """Whether bytes are a mail as Apple's program keeps it: its size, the mail, and what the program says of it."""
    first, _, rest = data[:BEGINNING].partition(b"\n")
    return SIZE.fullmatch(first) is not None and is_mail(rest)


def emlx(data: bytes) -> FileTexts:
    """The text of such a mail."""
    first, _, rest = data.partition(b"\n")
    if not SIZE.fullmatch(first):
        raise FormatError("cannot be read as mail")
    return mail(rest[: int(first)])


def mail(data: bytes) -> FileTexts:
    """The text of one mail."""
    if data.lower().count(b"boundary=") > MAX_BOUNDARIES:
        raise FormatError("a mail nested too deep")
    message = message_from_bytes(data)
    reading = _MailReading()
    texts = [found for part in reading.bodies(message) if (found := reading.words(part))]
    body = "\n\n".join(texts)
    subject = _subject(message)
    text = f"{subject}\n\n{body}" if subject and body else body
    return FileTexts(
        parts=(TextPart(text),),
        left_out=without_zeros(reading.left_out),
        encoding=reading.encoding or "ascii",
        replaced=reading.replaced,
    )


class _MailReading:
    """What was found in one mail so far."""

    def __init__(self) -> None:
        self.left_out: dict[str, int] = {}
        self.encoding = ""
        self.replaced = 0

    def bodies(self, message: Message) -> Iterator[Message]:
        """The parts that are its text, in order; all others are counted. Not recursive: parts nest as they like."""
        waiting: list[Message] = [message]
        while waiting:
            part = waiting.pop()
            kind = part.get_content_type()
            if part.is_multipart() and part.get_content_maintype() == "multipart":
                inside: Any = part.get_payload()
                chosen = _alternative(inside) if kind == "multipart/alternative" else inside
                waiting.extend(reversed(chosen[:1] if kind == "multipart/related" else chosen))
            elif _is_text(part, kind):
                yield part
            else:
                self.left_out[ATTACHMENT] = self.left_out.get(ATTACHMENT, 0) + _size(part)

    def words(self, part: Message) -> str:
        """The author's words in one part."""
        found = _decoded(part)
        if found is None:
            return ""
        self.encoding = self.encoding or found.encoding
        self.replaced += found.replaced
        text = found.text
        if part.get_content_type() == "text/html":
            read = page(text, _of_others)
            text = "\n".join(one.text for one in read.parts)
            self.left_out = dict(summed(self.left_out, read.left_out))
        elif part.get_param("format", "") == "flowed":
            text = unfolded(text, without_space=part.get_param("delsp", "") == "yes")
        words, left_out = own_words(text)
        self.left_out = dict(summed(self.left_out, left_out))
        return words


def _alternative(parts: list[Message]) -> list[Message]:
    """The plain one if it says something, otherwise the last, which is the richest (RFC 2046, 5.1.4)."""
    plain = [part for part in parts if part.get_content_type() == "text/plain" and _payload(part).strip()]
    return plain[:1] or parts[-1:]


def _is_text(part: Message, kind: str) -> bool:
    if kind.startswith("multipart/"):  # and its parts could not be told apart
        return True
    is_attached = part.get_content_disposition() == "attachment" or bool(part.get_filename())
    return kind in {"text/plain", "text/html"} and not is_attached


def _size(part: Message) -> int:
    return sum(len(_payload(one)) for one in part.walk())


def _payload(part: Message) -> bytes:
    """What a part holds; nothing of one that holds others. Its charset, which may be any codec, is not asked."""
    inside = b"" if part.is_multipart() else part.get_payload(decode=True)
    return inside if isinstance(inside, bytes) else b""


def _decoded(part: Message) -> FileText | None:
    """The text by its charset; by content if it names none that is known, or UTF-8, which tells itself."""
    payload = _payload(part)
    if not payload.strip():
        return None
    charset = charsets.known(str(part.get_content_charset() or ""))
    found = look(payload, charset) if charset else decode(payload)
    return found if isinstance(found, FileText) else None


def unfolded(text: str, *, without_space: bool) -> str:
    """Paragraphs of a `format=flowed` text in one line each (RFC 3676): a space at its end goes on in the next."""
    lines: list[str] = []
    depth = -1
    for line in text.split("\n"):
        found = FLOWED.fullmatch(line)
        marks, rest = (found[1], found[3]) if found else ("", line)
        goes_on = depth == len(marks) and bool(lines)
        if goes_on:
            lines[-1] += rest
        else:
            lines.append(f"{marks} {rest}" if marks else rest)
        is_soft = rest.endswith(" ") and rest != "-- "
        depth = len(marks) if is_soft else -1
        if is_soft and without_space:
            lines[-1] = lines[-1][:-1]
    return "\n".join(lines)


def _subject(message: Message) -> str:
    """The subject in one line; empty if it is that of a reply."""
    raw = str(message.get("Subject") or "")[:MAX_HEADER]
    try:
        pieces = [
            piece if isinstance(piece, str) else _of_header(piece, charset or "")
            for piece, charset in decode_header(raw)
        ]
    except (HeaderParseError, ValueError):
        pieces = [raw]
    subject = " ".join("".join(pieces).split())
    return "" if REPLY.fullmatch(subject) else LIST_TAG.sub("", subject)


def _of_header(piece: bytes, charset: str) -> str:
    found = look(piece, charsets.known(charset)) if charset else decode(piece)
    return found.text if isinstance(found, FileText) else piece.decode("utf-8", "replace")


def _of_others(element: Any) -> str:
    """Why an element of a page in a mail is left out: mail programs name what they quote by classes."""
    classes = set(element.get("class", "").split())
    if classes & SIGNATURE_CLASSES or element.get("id", "") == "Signature":
        return SIGNATURE
    is_cited = element.tag == "blockquote" and element.get("type", "").lower() == "cite"
    if not (is_cited or classes & QUOTING_CLASSES):
        return ""
    beginning = "".join(text for text, _ in zip(element.itertext(), range(8), strict=False))
    return "" if PASSED_ON.search(beginning[:400]) else QUOTED
