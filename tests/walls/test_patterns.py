r"""Patterns mean the whole text where they are meant to: none ends in `$`, which also holds before a final line break.

msgspec searches, so what a field has to match stands between \A and \Z. Regular expressions are asked by `fullmatch`
for the whole and by `search` for a part; `match` is neither, and nobody may use it. A pattern that this wall cannot read
is not let through: it is written where it is compiled.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as names  # type: ignore[attr-defined]  # the only parser there is
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from p2pfinetune.names import Refusal
from peerd.wire.framing import pack, unpack
from tests.fuzz.announcements import LINE_BREAKS
from tests.fuzz.messages import messages

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("p2pfinetune", "peerd", "bootstrap", "scripts") for path in (ROOT / folder).rglob("*.py")
)
ASKED = {"compile", "search", "fullmatch", "sub", "subn", "split", "findall", "finditer"}


def wrong_in_expression(pattern: str | bytes, flags: int = 0) -> str:
    """What is wrong with a regular expression; empty where nothing is."""
    parsed = parser.parse(pattern, flags)
    by_line = bool(parsed.state.flags & re.MULTILINE)
    dollar = any(op is names.AT and where is names.AT_END for op, where in operations(parsed))
    return "$ also holds before a line break at the end: \\Z" if dollar and not by_line else ""


def wrong_in_field(pattern: str) -> str:
    """What is wrong with the pattern of a msgspec field, which has to mean the whole text."""
    items = list(parser.parse(pattern))
    first, last = (names.AT, names.AT_BEGINNING_STRING), (names.AT, names.AT_END_STRING)
    if len(items) < 3 or items[0] != first or items[-1] != last:
        return "it is searched for, so it has to stand between \\A and \\Z"
    return wrong_in_expression(pattern)


def operations(parsed: Any) -> Iterator[tuple[Any, Any]]:
    """Every operation of a parsed expression, whatever it stands in."""
    for item in parsed if isinstance(parsed, parser.SubPattern) else ():
        yield item
        pending = [item[1]]
        while pending:
            part = pending.pop()
            if isinstance(part, parser.SubPattern):
                yield from operations(part)
            elif isinstance(part, list | tuple):
                pending.extend(part)


def text_of(node: ast.expr) -> str | bytes | None:
    """A pattern as it is written; holes of f-strings are filled with a letter."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
    return None


def is_glob(called: ast.expr) -> bool:
    """`path.match`, which is of pathlib."""
    return isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "path"


def flags_of(call: ast.Call) -> int:
    given = " ".join(ast.unparse(part) for part in [*call.args[1:], *(keyword.value for keyword in call.keywords)])
    return sum(getattr(re, name) for name in ("MULTILINE", "DOTALL", "VERBOSE") if f"re.{name}" in given)


def faults(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "re":
            yield "functions of re are called by their full names, so that they are seen here"
        elif isinstance(node, ast.Call):
            yield from faults_of_call(node)


def faults_of_call(call: ast.Call) -> Iterator[str]:
    called = ast.unparse(call.func)
    if called.endswith("Meta"):
        for keyword in call.keywords:
            if keyword.arg == "pattern":
                text = text_of(keyword.value)
                yield "the pattern of a field stands where it is used" if text is None else wrong_in_field(str(text))
    elif called.endswith(".match") and not is_glob(call.func):
        yield "match asks neither for the whole nor for a part"
    elif called.startswith("re.") and called.partition(".")[2] in ASKED and call.args:
        text = text_of(call.args[0])
        yield "a pattern stands where it is compiled" if text is None else wrong_in_expression(text, flags_of(call))


def test_no_pattern_of_ours_matches_a_line_break_at_its_end_or_a_part_where_the_whole_is_meant() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {fault}"
        for path in SOURCES
        for fault in faults(ast.parse(path.read_text()))
        if fault
    }

    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        'Meta(pattern="^[0-9a-f]{64}$")',
        'Meta(pattern="[0-9a-f]{64}")',
        r'msgspec.Meta(pattern=r"\A[0-9a-f]{64}$")',
        r'msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")',
        r'msgspec.Meta(pattern=r"\Aok|absent\Z")',
        "msgspec.Meta(pattern=DIGEST)",
        're.compile("[0-9]+$")',
        're.compile(rf"{LABEL}(a|b$)")',
        're.fullmatch(rb"([0-9]+$)?", text)',
        're.match("[0-9]+", text)',
        "_NAME.match(text)",
        "pattern.match(text)",
        're.compile("[0-9]+").match(text)',
        're.compile("[0-9]" + "+$")',
        "re.compile(DIGITS)",
        "from re import fullmatch",
    ],
)
def test_the_wall_sees_what_is_wrong(code: str) -> None:
    assert any(faults(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        r'msgspec.Meta(pattern=r"\A(ok|absent)\Z")',
        r're.compile(r"[ \t]+$", re.MULTILINE)',
        r're.compile(r"\$[a-z]")',
        're.search("[$]", text)',
        'path.match("*.py")',
        "NAME.fullmatch(text)",
    ],
)
def test_the_wall_lets_through_what_is_right(code: str) -> None:
    assert not any(faults(ast.parse(code)))


def patterned(message: msgspec.Struct) -> Iterator[str]:
    """Names of its fields that have a pattern."""
    for name, hint in get_type_hints(type(message), include_extras=True).items():
        if any(isinstance(part, msgspec.Meta) and part.pattern for part in get_args(hint)):
            yield name


@pytest.mark.parametrize("message", messages(), ids=lambda message: type(message).__name__)
def test_a_field_with_a_pattern_takes_nothing_before_or_behind_what_it_matches(message: msgspec.Struct) -> None:
    for name in patterned(message):
        value = getattr(message, name)
        for odd in [form for end in LINE_BREAKS for form in (value + end, end + value)]:
            data = pack(msgspec.structs.replace(message, **{name: odd}))
            found = unpack(data, type(message), max_bytes=len(data))
            assert isinstance(found, Refusal), (name, odd)
            assert found.reason == "bad-message"


def test_every_kind_of_message_that_names_a_digest_or_a_status_has_a_pattern_there() -> None:
    fields = {(type(message).__name__, name) for message in messages() for name in patterned(message)}

    assert fields == {
        ("Announcement", "network"),
        ("Why", "group"),
        ("Why", "model"),
        ("Why", "adapter"),
        ("Announcement", "blob"),
        ("BlobRequest", "blob"),
        ("BlobReply", "status"),
        ("MiddleRequest", "mine"),
        ("MiddleRequest", "yours"),
        ("MiddleReply", "status"),
        ("Register", "network"),
        ("Sample", "status"),
    }
