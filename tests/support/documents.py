"""Files of office programs, books and PDFs, made here so that every byte of them is known."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
ODF = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"'
)


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files by name; `mimetype` comes as it has to, uncompressed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as into:
        for name, data in files.items():
            into.writestr(name, data, zipfile.ZIP_STORED if name == "mimetype" else method)
    return packed.getvalue()


def docx_of(body: str, **others: str) -> bytes:
    """A Word document with that body, and other parts by name."""
    parts = {
        "[Content_Types].xml": b"<Types/>",
        "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>".encode(),
    }
    return zipped(
        parts | {f"word/{name}.xml": f"<w:{name} {W}>{text}</w:{name}>".encode() for name, text in others.items()}
    )


def odt_of(body: str, manifest: str = "<m/>") -> bytes:
    """An OpenDocument text with that body."""
    content = f"<office:document-content {ODF}><office:body><office:text>{body}</office:text></office:body></office:document-content>"
    mime = b"application/vnd.oasis.opendocument.text"
    return zipped({"mimetype": mime, "content.xml": content.encode(), "META-INF/manifest.xml": manifest.encode()})


def epub_of(chapters: Sequence[str], **others: bytes) -> bytes:
    """A book of these pages, in this order, and with a table of contents."""
    items = "".join(
        f'<item id="c{i}" href="c%20{i}.xhtml" media-type="application/xhtml+xml"/>' for i in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    toc = '<item id="t" href="toc.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    package = f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{toc}{items}</manifest><spine><itemref idref="t"/>{order}</spine></package>'
    container = '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
    pages = {f"OPS/c {i}.xhtml": text.encode() for i, text in enumerate(chapters)}
    files = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": container.encode(),
        "OPS/book.opf": package.encode(),
    }
    return zipped({**files, "OPS/toc.xhtml": b"<html><body>Contents</body></html>", **pages, **others})


def pdf_of(pages: Sequence[Sequence[str]], content: bytes = b"") -> bytes:
    """A PDF of pages of lines, or with one content stream for all."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        shown = b"".join(b"(%s) Tj T*\n" % _escaped(line) for line in lines)
        stream = content or b"BT /F1 12 Tf 14 TL 50 800 Td\n" + shown + b"ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    return _file_of(objects)


def _escaped(line: str) -> bytes:
    return line.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file_of(objects: Sequence[bytes]) -> bytes:
    data, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    return data + b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        count, table, count, len(data),
    )  # fmt: skip
