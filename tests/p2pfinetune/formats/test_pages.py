"""Web pages: what a reader sees of them."""

from __future__ import annotations

import time

import pytest

from p2pfinetune.data.formats import markup
from p2pfinetune.data.formats.page import declared_encoding, page

PAGE = """<!DOCTYPE html>
<html><head><title>Harbour news</title><meta charset="utf-8"><style>p { color: red }</style></head>
<body>
<header><a href="/">Home</a></header>
<nav><ul><li>News</li><li>Boats</li></ul></nav>
<main>
  <header><h1>The   harbour
  is frozen</h1></header>
  <p>Nobody <b>sails</b> today.<br>Tomorrow <a href="x">perhaps</a>.</p>
  <ul><li>ice: 4&nbsp;cm</li><li><p>wind: none</p></li><li></li></ul>
  <pre>
depth  2
  ice  4
</pre>
  <table><tr><th>day</th><th>ice</th></tr><tr><td>Mon</td><td>3 &lt; 4</td></tr></table>
  <p style="display: none">track me</p><div hidden>and me</div>
  <script>alert("<p>no</p>")</script>
  <form><input value="q"><button>Search</button></form>
</main>
<footer>All rights reserved</footer>
</body></html>"""


def test_of_a_page_the_main_text_is_read_and_nothing_around_it(seen):
    found = seen("news.html", PAGE.encode())

    text = (
        "The harbour is frozen\n\nNobody sails today.\nTomorrow perhaps.\n\n- ice: 4 cm\n\n- wind: none\n\n"
        "depth  2\n  ice  4\n\nday | ice\nMon | 3 < 4"
    )
    assert found.texts == [text]
    assert found.sources == ["news.html"]


def test_a_page_that_does_not_say_what_its_main_part_is_is_read_without_its_navigation(seen):
    found = seen("a.htm", b"<nav>Home</nav><div role=navigation>More</div><p>Ice.</p><aside>Ads</aside>Tail")

    assert found.texts == ["Ice.\n\nTail"]
    assert found.left_out == {"page navigation": 11}


@pytest.mark.parametrize(
    ("encoding", "says"),
    [("cp1251", "windows-1251"), ("latin-1", "iso-8859-1"), ("utf-8", "utf-8"), ("utf-16", "x"), ("euc_jp", "euc-jp")],
)
def test_a_page_is_read_in_the_encoding_that_it_names_unless_it_is_unicode(seen, encoding, says):
    text = {"cp1251": "Лёд тает.", "euc_jp": "氷が溶ける。"}.get(encoding, "Das Eis schmilzt früh.")
    data = f'<html><meta http-equiv="Content-Type" content="text/html; charset={says}"><p>{text}</p>'.encode(encoding)

    assert seen("a.html", data).texts == [text]


@pytest.mark.parametrize("name", ["punycode", "idna", "zlib", "unicode_escape", "nonsense", "utf-7", "undefined"])
def test_a_page_cannot_choose_a_codec_that_is_no_encoding_of_text(name):
    assert declared_encoding(f"<meta charset={name}>".encode()) == ""


@pytest.mark.parametrize("data", [b"<!-- -->", b"<p></p>", b"<script>x</script>", b"<html>"])
def test_a_page_without_a_word_is_empty(seen, data):
    assert seen("a.html", data).reason == "empty"


def test_a_page_nested_deeper_than_is_read_is_refused_and_not_cut_in_silence(seen):
    assert seen("a.html", b"<p>before</p>" + b"<div>" * 400 + b"ice").reason == "markup nested too deep"


def test_a_page_with_more_than_is_read_is_refused_before_it_is_parsed(seen, monkeypatch):
    monkeypatch.setattr(markup, "MAX_MARKS", 100)
    assert seen("a.html", b"<p>x" * 101).reason == "markup with too many elements"

    monkeypatch.setattr(markup, "MAX_MARKUP_BYTES", 1 << 20)
    assert seen("b.html", b"x" * (1 << 21)).reason == "markup larger than 1 MiB"


LONG = 60_000
STUBBORN = {
    "open tags": "<p",
    "open comments": "<!--",
    "open quotes": "<a href='",
    "entities": "&",
    "unclosed items": "<li>x",
    "paragraphs": "<p>x",
    "skipped": "<nav>x</nav>",
    "breaks": "<br>",
    "cells": "<td>x",
    "meta": "<meta ",
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_no_page_keeps_the_reader_busy_for_longer_than_its_length(kind):
    piece, begun = STUBBORN[kind], time.process_time()
    text = piece * (LONG // len(piece))

    page(text)
    declared_encoding(text.encode())

    assert time.process_time() - begun < 3.0
