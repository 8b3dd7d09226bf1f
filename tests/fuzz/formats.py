"""Target: files of formats, as strangers send them: a text or a reason comes out, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import lxml.etree  # noqa: F401  # loaded here, so that it counts as nothing that an input took
import pypdf  # noqa: F401
import zstandard

from p2pfinetune.data.formats.quotes import own_words
from p2pfinetune.data.opening import content_of_bytes
from p2pfinetune.data.pieces import normalise
from tests.fuzz import mutate
from tests.fuzz.target import Target
from tests.support.documents import W, docx_of, epub_of, odt_of, pdf_of, zipped

SUFFIXES = (
    (".html", ".md", ".eml", ".mbox", ".csv", ".tsv", ".org", ".tex", ".pdf", ".docx", ".odt", ".epub", ".rtf", ".zip", ".gz", ".zst", ".tar", ".ipynb", ".fodt", "")
)  # fmt: skip
MAIL = (
    b"From: a@b.c\nDate: Tue, 3 Mar 2026 10:11:00 +0100\nMessage-ID: <1@b.c>\nSubject: =?utf-8?q?x?=\n"
    b'MIME-Version: 1.0\nContent-Type: multipart/alternative; boundary="b"\n\n--b\nContent-Type: text/plain; charset=utf-8; '
    b"format=flowed\n\nYes, \nit is.\n-- \nme\n\nOn Tue, 3 Mar 2026 09:00 Bob <b@c.d> wrote:\n> Is it?\n--b\n"
    b"Content-Type: text/html\n\n<p>Yes<blockquote type=cite>Is it?</blockquote>\n--b--\n"
)
WORDS = tuple(
    word.encode()
    for word in [
        "<nav>",
        "<pre>",
        "</div>",
        "<li>",
        "&nbsp;",
        "<!--",
        "[[",
        "]]",
        "---\n",
        "+++\n",
        "```",
        "boundary=",
        "\n> ",
        "\n-- \n",
        "wrote:\n",
        "From: ",
        ";;",
        "\nFrom - Tue Mar 3 10:11:00 2026\n",
        "----- Original Message -----",
        '",',
        "\n:END:",
        "#+begin_src",
        "#+RESULTS:\n",
        "%",
        "\\begin{verbatim}",
        "\\'e4",
        "{\\*",
        "\\u1?",
        "<<",
        ">>",
        "stream\n",
        "endobj",
        "1 0 R",
        "/Kids",
        "BT",
        " Tj",
        "<w:p>",
        "<w:del>",
        "<text:s/>",
    ]
)


def run_formats(data: bytes) -> None:
    """Texts or a reason, and nothing that a later step could not write."""
    suffix = SUFFIXES[data[0] % len(SUFFIXES) if data else 0]
    found = content_of_bytes(data[1:], Path(f"file{suffix}"))
    assert bool(found.documents) != bool(found.reason), found
    assert all(count > 0 for count in found.left_out.values()), found.left_out
    assert len(found.reason) < 80
    for document in found.documents:
        assert document.text.strip()
        assert document.text.encode("utf-8")
        assert "\r" not in document.text
        assert normalise(document.text) == document.text.strip("\n")


def run_quotes(data: bytes) -> None:
    """The author's words are lines of the mail, in their order, and nothing is counted that was not there."""
    text = data.decode("utf-8", "replace").replace("\r", "\n")
    words, left_out = own_words(text)
    lines = iter(text.split("\n"))
    assert all(any(line == one for one in lines) for line in words.split("\n") if line.strip())
    assert sum(left_out.values()) <= len(text) + 1


def format_seeds() -> Iterator[bytes]:
    """A small file of each format."""
    page = b"<html><head><meta charset=iso-8859-1></head><nav>Home</nav><main><h1>Ice</h1><ul><li>one</ul><pre>\n x\n</pre><table><td>a<td>b</table></main>"
    note = b"---\ntitle: x\n---\n# Ice\nid:: 1\nSee [[Page|words]] ^id1\n```\n[[x]]\n```\n"
    word = docx_of(
        "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>Ice</w:t><w:tab/></w:r><w:del><w:r/></w:del></w:p><w:tbl><w:tr><w:tc><w:p/></w:tc></w:tr></w:tbl>"
    )
    odf = odt_of(
        "<text:p>Ice<text:s text:c='3'/><text:note><text:note-body><text:p>n</text:p></text:note-body></text:note></text:p>"
    )
    notebook = json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": ["x = 1"]}]}).encode()
    org = b"#+TITLE: Ice\n* One\n:PROPERTIES:\n:ID: 1\n:END:\n#+RESULTS:\n: 1\n[[a][b]]\n"
    tex = b"\\documentclass{a}\n\\begin{document}\nIce % c\n\\begin{verbatim}\n% x\n\\end{verbatim}\n\\end{document}\n"
    table = b'id,text\n1,"The ice is thin, today"\n2,It will be open again soon\n'
    rich = b"{\\rtf1\\ansi{\\fonttbl{\\f0\\fcharset204 A;}}\\f0 \\'c3\\u252?{\\*\\x y}\\par}"
    single = pdf_of([["Ice is", "thin-", "ner."]])
    flat = b"<office:document xmlns:office='o' xmlns:text='t'><text:p>Ice</text:p></office:document>"
    tar = (b"a.txt".ljust(124, b"\0") + b"00000000003\0").ljust(512, b"\0") + b"ice".ljust(512, b"\0")
    packed = zipped({"a.md": note, "b/c.html": page, "d.zip": zipped({"e.eml": MAIL})})
    by_suffix = {
        ".html": page, ".md": note, ".eml": MAIL, ".mbox": b"From a Tue Mar 3 10:11:00 2026\n" + MAIL, ".csv": table,
        ".tsv": table.replace(b",", b"\t"), ".org": org, ".tex": tex, ".pdf": single, ".docx": word, ".odt": odf,
        ".epub": epub_of(["<p>Ice</p>"]), ".rtf": rich, ".zip": packed, ".gz": gzip.compress(note, mtime=0),
        ".zst": zstandard.compress(note), ".tar": tar, ".ipynb": notebook, ".fodt": flat, "": MAIL,
    }  # fmt: skip
    for number, suffix in enumerate(SUFFIXES):
        yield bytes([number]) + by_suffix[suffix]
    yield bytes([SUFFIXES.index(".docx")]) + zipped({"word/document.xml": f"<w:document {W}/>".encode()}, 0)


TARGETS = (
    Target(
        name="formats", run=run_formats, seeds=format_seeds, max_bytes=8192, mutate=mutate.plain(WORDS), words=WORDS,
        peak_bytes=48 << 20,
    ),
    Target(
        name="quotes", run=run_quotes, seeds=lambda: [MAIL, b"x\n\n-- \ny", b"a\n> b\nc"], max_bytes=8192,
        mutate=mutate.plain(WORDS), words=WORDS, peak_bytes=8 << 20,
    ),
)  # fmt: skip
