"""What a reader sees of a web page: its main text, without scripts, navigation, forms, and what is hidden.

If the page says which part is its main one (`<main>`, `role=main`, a single `<article>`), that part is read; otherwise
all of its body. Paragraphs stand apart by a blank line, items of lists begin with "- ", cells of a row are parted by
" | ", `<pre>` stays as it is. Links are their words; pictures are nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from p2pfinetune.data.formats import charsets, markup
from p2pfinetune.data.formats.lines import PageLines
from p2pfinetune.data.formats.parts import FileTexts, opened

NAVIGATION = "page navigation"
UNSEEN = frozenset(
    {"script", "style", "noscript", "template", "head", "svg", "math-annotation", "annotation", "iframe", "object"}
    | {"input", "select", "button", "textarea", "datalist", "audio", "video", "canvas", "map", "dialog", "img"}
)
ASIDE = frozenset({"nav", "aside", "footer", "menu"})
ASIDE_ROLES = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "menu", "menubar"})
ASIDE_CLASSES = frozenset(
    {"headerlink", "anchor-link", "mw-editsection", "navbox", "noprint", "sr-only", "visually-hidden"}
    | {"screen-reader-text", "skip-link", "breadcrumb", "breadcrumbs", "cookie-banner"}
)
PARAGRAPHS = frozenset(
    {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "pre", "blockquote", "figure", "article", "hr"}
    | {"section", "header", "fieldset", "details"}
)
BLOCKS = frozenset({"div", "li", "tr", "dt", "dd", "address", "figcaption", "summary", "center", "caption", "form"})
HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
BEGINNING = 4096  # bytes in which a page says its encoding; the standard says 1024, pages are not so strict
Predicate = Callable[[Any], str]


def nothing_more(_: Any) -> str:
    """No other element is left out."""
    return ""


def declared_encoding(data: bytes) -> str:
    """The encoding that a page names for itself, if it is one of text that is not Unicode; empty otherwise."""
    found = DECLARED.search(data[:BEGINNING])
    return charsets.known(found[1].decode("ascii")) if found else ""


def page(text: str, left_out_for: Predicate = nothing_more) -> FileTexts:
    """The main text. `left_out_for` says of an element under which reason it is left out; empty if it is read."""
    root = markup.html(text)
    if root is None:
        return opened("")
    main = _main(root)
    reading = _PageReading(left_out_for, is_part=main is not root)
    reading.walk(main)
    if main is not root and not reading.lines.pieces:
        reading = _PageReading(left_out_for, is_part=False)
        reading.walk(root)
    return opened(reading.lines.text(), reading.left_out)


def _main(root: Any) -> Any:
    for path in (".//main", ".//*[@role='main']", ".//article"):
        found = root.findall(path)
        if len(found) == 1:
            return found[0]
    return root


@dataclass(slots=True)
class _PageReading:
    """One walk over a page. `is_part`: whether its main part alone is walked, in which a header is a title."""

    left_out_for: Predicate
    is_part: bool
    lines: PageLines = field(default_factory=PageLines)
    left_out: dict[str, int] = field(default_factory=dict)
    verbatim: int = 0
    begins: bool = False
    """Whether verbatim text begins here: the line end after `<pre>` is none of it."""

    def walk(self, root: Any) -> None:
        for event, element, name in markup.walked(root, lambda element, name: self._is_left_out(element, name, root)):
            if event == "start":
                self._start(name)
                self._write(element.text)
                continue
            if event == "end":
                self._end(name)
            if element is not root:
                self._write(element.tail)

    def _is_left_out(self, element: Any, name: str, root: Any) -> bool:
        reason = self._reason(element, name)
        if reason is None or element is root:
            return False
        self._skip(element, reason)
        return True

    def _reason(self, element: Any, name: str) -> str | None:
        """Why an element is left out; empty if nobody would miss it, None if it is read."""
        if name in UNSEEN or element.get("hidden") is not None or HIDDEN.search(element.get("style", "")):
            return ""
        if found := self.left_out_for(element):
            return found
        aside = name in ASIDE or (name == "header" and not self.is_part)
        aside = aside or element.get("role", "") in ASIDE_ROLES
        aside = aside or not ASIDE_CLASSES.isdisjoint(element.get("class", "").split())
        return NAVIGATION if aside else None

    def _skip(self, element: Any, reason: str) -> None:
        if reason:
            size = sum(len(" ".join(text.split())) for text in element.itertext())
            self.left_out[reason] = self.left_out.get(reason, 0) + size
        if markup.local(element) in PARAGRAPHS | BLOCKS | ASIDE:
            self.lines.line_break()

    def _start(self, name: str) -> None:
        self._break(name)
        if name == "li":
            self.lines.item("- ")
        elif name in {"td", "th"}:
            self.lines.between(" | ")
        elif name == "br":
            self.lines.another_break()
        elif name == "pre":
            self.verbatim += 1
            self.begins = True

    def _end(self, name: str) -> None:
        if name == "pre":
            self.verbatim -= 1
            self.lines.end_verbatim()
        elif name == "li":
            self.lines.item("")
        self._break(name)

    def _break(self, name: str) -> None:
        if name in PARAGRAPHS:
            self.lines.line_break(2)
        elif name in BLOCKS:
            self.lines.line_break()

    def _write(self, text: str | None) -> None:
        if text and self.verbatim:
            self.lines.verbatim(text.removeprefix("\n") if self.begins else text)
            self.begins = False
        elif text:
            self.lines.words(text)
