"""Parse markup of strangers: no entity is expanded, nothing is fetched, and size and depth are bounded.

libxml2 (through lxml) stops at elements deeper than 256, text nodes above 10 MB and entities that grow. A document type
with entities of its own is refused here altogether, since no office program and no book writes one. What libxml2 would
cut in silence, a page nested too deep, is refused as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from p2pfinetune.data.formats.parts import FormatError

MAX_MARKUP_BYTES = 32 << 20
MAX_MARKS = 1_000_000  # each begins or ends an element; their tree takes half a gigabyte
TOO_DEEP = "Excessive depth"  # so libxml2 says


def xml(data: bytes) -> Any:
    """The root element. Raises FormatError, or what lxml raises for broken markup."""
    from lxml import etree

    _bounded(data)
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )
    root = etree.fromstring(data, parser)
    types = root.getroottree().docinfo.internalDTD
    if types is not None and next(iter(types.iterentities()), None) is not None:
        raise FormatError("markup with entities of its own")
    return root


def html(text: str) -> Any:
    """The root element of a page, however broken; None if there is neither an element nor a word in it."""
    from lxml import etree

    data = text.encode("utf-8", "replace")
    _bounded(data)
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        return None
    if any(TOO_DEEP in error.message for error in parser.error_log):
        raise FormatError("markup nested too deep")
    return root


def local(element: Any) -> str:
    """The name of an element without its name space, in small letters; empty for what is no element."""
    tag = element.tag
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def walked(root: Any, is_left_out: Callable[[Any, str], bool]) -> Iterator[tuple[str, Any, str]]:
    """`start` and `end` of each element in its order, with its name; of one that is left out `skipped` alone.

    That comes where its end would: what follows it is its parent's text (`tail`), and is there all the same.
    """
    from lxml import etree

    walker = etree.iterwalk(root, events=("start", "end"))
    skipped = None
    for event, element in walker:
        name = local(element)
        if event == "end":
            yield ("skipped" if element is skipped else "end"), element, name
        elif is_left_out(element, name):
            skipped = element
            walker.skip_subtree()
        else:
            yield "start", element, name


def _bounded(data: bytes) -> None:
    if len(data) > MAX_MARKUP_BYTES:
        raise FormatError(f"markup larger than {MAX_MARKUP_BYTES >> 20} MiB")
    if data.count(b"<") > MAX_MARKS:
        raise FormatError("markup with too many elements")
