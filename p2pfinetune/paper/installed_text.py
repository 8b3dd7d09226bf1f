"""Three kinds of text that every installation has on disk: English prose, Python and C++.

* prose: Python's help topics and docstrings of one half of the standard library's modules;
* python: sources of the other half, without docstrings and without licence headers;
* cpp: headers of the installed torch package, without generated ones, licences and lists of includes.

Every document is at most a few kilobytes long and has no end in white space, so reading it back from a file gives the
same document. Nothing is imported to be read, and nothing but the named packages is looked at.

Why these: the demo has to run on a machine without a network and without data of its own, and its peers have to differ,
or there would be nothing to trust. Prose and Python come from two halves of the library, so that no docstring stands in
one peer's prose and another's code. What the text is depends on the versions installed, so figures of the demo are not
compared between machines.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from p2pfinetune.data.blocks import cut
from p2pfinetune.data.documents import Document, normalise
from p2pfinetune.data.encodings import FileText
from p2pfinetune.data.files import read_text
from p2pfinetune.errors import TextError

LEAST = 300  # characters: less is a fragment, not a text
MOST = 600_000  # characters of a kind: enough for six shares of the demo's size once near-duplicates are out

PER_SOURCE = 6  # documents: the kind is wanted in its breadth, not the largest few files
MOST_DIGITS = 0.15  # of the characters of a document: coefficients and code points are no language

LEFT_OUT = frozenset(  # folders without text of a kind: tests, tables, other people's packages, generated operators
    {"test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "ensurepip", "turtledemo"}
    | {"site-packages", "dist-packages", "ops"}
)
HEADERS = ("ATen", "c10", "torch/csrc")  # written for torch itself; the rest of `include` belongs to other projects
GENERATED = re.compile(
    r"@generated|auto-?generated|automatically generated|generated (by|from)|do not edit", re.IGNORECASE
)
GENERATED_PATHS = ("ATen/RegistrationDeclarations.h", "ATen/VmapGeneratedPlumbing.h")
COMMENT = re.compile(r"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+", re.DOTALL | re.MULTILINE)
LICENCE = re.compile(
    r"copyright|licen[cs]ed under|all rights\s+reserved|permission is hereby granted|redistribution and use|SPDX",
    re.IGNORECASE,
)
PRELUDE = re.compile(r"^[ \t]*#[ \t]*(?:include\b.*|pragma once.*)\n", re.MULTILINE)
WRAPPER = re.compile(  # what torch's build puts around every header
    r"\A#if !defined\(TORCH_STABLE_ONLY\).*\n|^#else\n#error \"This file should not be included.*\n#endif.*\s*\Z",
    re.MULTILINE,
)
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
BODIES = ("body", "handlers", "orelse", "finalbody", "cases")  # fields that hold statements
DIGIT = re.compile(r"\d")
LETTER = re.compile(r"[^\W\d_]|\s")
LEAST_LETTERS = 0.9  # of the characters of a paragraph, white space included: English has 0.95, code and tables 0.8


def documents_of(kind: str, most: int = MOST) -> list[Document]:
    """Documents of `prose`, `python` or `cpp`, about `most` characters in all, in an order that never changes."""
    documents: list[Document] = []
    total = 0
    for source, text in KINDS[kind]():
        if total >= most:
            break
        blocks = [block for block in cut(normalise(text)) if len(block) >= LEAST and not is_table(block)]
        found = [Document.of(block, source) for block in blocks[:PER_SOURCE]]
        total += sum(len(document.text) for document in found)
        documents += found
    return documents


def _prose() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    modules = {name: path for name, path in _modules().items() if serves_as_prose(name)}
    for name in _shuffled([*modules, *(f"topic {name}" for name in topics)]):
        if name in modules:
            yield name, _paragraphs("\n\n".join(_docstrings(_source(modules[name]))))
        else:
            yield name, _paragraphs(topics[name.removeprefix("topic ")])


def _paragraphs(text: str) -> str:
    parts = (textwrap.dedent(part) for part in re.split(r"\n[ \t]*\n", text))
    return "\n\n".join(part for part in parts if is_prose(part))


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is English rather than a heading, an example, a grammar or a table."""
    return len(LETTER.findall(paragraph)) >= LEAST_LETTERS * len(paragraph) and paragraph.rstrip().endswith(
        (".", ":", "!", "?", ")")
    )


def _docstrings(source: str) -> Iterator[str]:
    for node in definitions(ast.parse(source)):
        text = ast.get_docstring(node)
        if text and len(text) >= LEAST:
            yield text


def definitions(module: ast.Module) -> Iterator[Documented]:
    """All that can have a docstring, in order; looks at statements alone, since expressions are most of a tree."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Documented):
            yield node
        inside = [child for name in BODIES for child in getattr(node, name, ())]
        waiting.extend(reversed(inside))


def is_table(text: str) -> bool:
    """Whether a text is mostly numbers."""
    return len(DIGIT.findall(text)) > MOST_DIGITS * len(text)


def _python() -> Iterator[tuple[str, str]]:
    modules = {name: path for name, path in _modules().items() if not serves_as_prose(name)}
    for name in _shuffled(modules):
        yield name, without_docstrings(_source(modules[name]))


def serves_as_prose(module: str) -> bool:
    """Whether a module gives its docstrings or its code; whole packages go one way."""
    return hashlib.sha256(module.partition(".")[0].encode()).digest()[0] % 2 == 0


def _modules() -> dict[str, Path]:
    """Name and file of every module of the standard library."""
    root = Path(sysconfig.get_path("stdlib"))
    found = {}
    for path in _files(root, ".py"):
        parts = path.relative_to(root).with_suffix("").parts
        if not parts[0].startswith("_sysconfigdata"):
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def _files(root: Path, suffix: str) -> Iterator[Path]:
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if name not in LEFT_OUT]
        yield from (Path(folder, name) for name in names if name.endswith(suffix))


def _shuffled(names: Iterable[str]) -> list[str]:
    """In the order of their hashes: always the same, and never all of one package first."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def _source(path: Path) -> str:
    found = read_text(path)
    return found.text if isinstance(found, FileText) else ""


def without_docstrings(source: str) -> str:
    """Python code without docstrings and without the comments that open the file; it still compiles."""
    lines = source.split("\n")
    for node in definitions(ast.parse(source)):
        if ast.get_docstring(node, clean=False) is not None:
            _blank(lines, node.body[0], alone=len(node.body) == 1)
    return re.sub(r"\n{3,}", "\n\n\n", re.sub(r"\A(?:[ \t]*(?:#[^\n]*)?\n)+", "", "\n".join(lines)))


def _blank(lines: list[str], docstring: ast.stmt, *, alone: bool) -> None:
    """Empty the lines of a docstring, unless it shares them with other code."""
    begin, end = docstring.lineno - 1, docstring.end_lineno or docstring.lineno
    before = lines[begin].encode()[: docstring.col_offset]  # offsets count bytes
    after = lines[end - 1].encode()[docstring.end_col_offset :]
    shared = before.strip() or after.strip()
    if not shared:
        left = " " * docstring.col_offset + "pass" if alone else ""
        lines[begin:end] = [left, *[""] * (end - begin - 1)]


def _cpp() -> Iterator[tuple[str, str]]:
    include = torch_include()
    paths = [path for folder in HEADERS for path in _files(include / folder, ".h")]
    names = {path.relative_to(include).as_posix(): path for path in paths}
    for name in _shuffled(names):
        if not name.startswith(GENERATED_PATHS):
            text = _source(names[name])
            if not GENERATED.search(text[:2000]):
                yield name, without_prelude(text)


def torch_include() -> Path:
    """The headers of the installed torch, found without importing it. Raises TextError if there are none."""
    found = importlib.util.find_spec("torch")
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        if (include := Path(folder) / "include").is_dir():
            return include
    raise TextError("the installed torch has no header files to read", "install PyTorch from its wheel")


def without_prelude(text: str) -> str:
    """A C++ header without licence, include lines and what torch's build wraps around it."""
    text = WRAPPER.sub("", text)
    text = COMMENT.sub(lambda found: "" if LICENCE.search(found.group()) else found.group(), text)
    return re.sub(r"\n{3,}", "\n\n", PRELUDE.sub("", text))


KINDS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {"prose": _prose, "python": _python, "cpp": _cpp}
