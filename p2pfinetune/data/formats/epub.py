"""The text of a book: its chapters in reading order, each a text of its own, read as the pages that they are.

An .epub is a zip of pages with a list of their order (EPUB 3.3, 4.1 and 5.7). Its table of contents is left out.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from p2pfinetune.data.encodings import FileText, decode, look
from p2pfinetune.data.formats import archive, markup
from p2pfinetune.data.formats.page import declared_encoding, page
from p2pfinetune.data.formats.parts import FileTexts, FormatError, TextPart, summed

MIME = b"mimetypeapplication/epub+zip"  # stands uncompressed at byte 30, so that it can be seen
CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
PAGES = frozenset({"application/xhtml+xml", "text/html"})
MAX_CHAPTERS = 5000


def is_epub(data: bytes) -> bool:
    """Whether a zip calls itself a book."""
    return data.startswith(b"PK\x03\x04") and data[30:].startswith(MIME)


def epub(data: bytes) -> FileTexts:
    """The texts of its chapters, with their numbers."""
    budget = archive.Budget.of(len(data))
    with archive.zip_file(data) as packed:
        names = list(_spine(packed, budget))[:MAX_CHAPTERS]
        if ENCRYPTION in packed.namelist():
            _refuse_encrypted(markup.xml(archive.member_of(packed, ENCRYPTION, budget)), names)
        read = [_chapter(archive.member_of(packed, name, budget)) for name in names]
    texts = [one for one in read if one is not None and one.parts[0].text]
    parts = [TextPart(one.parts[0].text, f":chapter {number}") for number, one in enumerate(texts, start=1)]
    return FileTexts(parts=tuple(parts), left_out=summed(*(one.left_out for one in texts)), encoding="utf-8")


def _spine(packed: zipfile.ZipFile, budget: archive.Budget) -> Iterator[str]:
    """Names of the pages in reading order."""
    container = markup.xml(archive.member_of(packed, CONTAINER, budget))
    root = next((one.get("full-path") for one in container.iter() if markup.local(one) == "rootfile"), None)
    if not root:
        raise FormatError("parts of it are missing")
    package = markup.xml(archive.member_of(packed, root, budget))
    items = {one.get("id"): one for one in package.iter() if markup.local(one) == "item"}
    for one in package.iter():
        item = items.get(one.get("idref")) if markup.local(one) == "itemref" else None
        if item is not None and item.get("media-type") in PAGES and "nav" not in item.get("properties", "").split():
            yield posixpath.normpath(posixpath.join(posixpath.dirname(root), unquote(item.get("href", ""))))


def _refuse_encrypted(encryption: Any, names: list[str]) -> None:
    """Fonts may be hidden in a book that can be read."""
    hidden = {unquote(one.get("URI", "")) for one in encryption.iter() if markup.local(one) == "cipherreference"}
    if hidden & set(names):
        raise FormatError("encrypted")


def _chapter(data: bytes) -> FileTexts | None:
    found = look(data, declared_encoding(data)) or None
    text = found if isinstance(found, FileText) else decode(data)
    return page(text.text) if text else None
