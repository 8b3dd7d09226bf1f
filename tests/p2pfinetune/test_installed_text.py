"""Text that every installation has on disk."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from p2pfinetune.data.blocks import cut
from p2pfinetune.data.documents import normalise
from p2pfinetune.errors import TextError
from p2pfinetune.paper import installed_text
from p2pfinetune.paper.installed_text import (
    documents_of,
    is_prose,
    is_table,
    serves_as_prose,
    without_docstrings,
    without_prelude,
)

KINDS = ("prose", "python", "cpp")
SOME = 60_000


@pytest.fixture(scope="module")
def found():
    return {kind: documents_of(kind, most=SOME) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_enough_of_every_kind(found, kind):
    assert sum(len(document.text) for document in found[kind]) >= SOME


@pytest.mark.parametrize("kind", KINDS)
def test_documents_read_back_from_a_file_are_the_same(found, kind):
    assert all(cut(normalise(document.text)) == [document.text] for document in found[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_no_source_gives_more_than_a_few_documents(found, kind):
    sources = [document.source for document in found[kind]]

    assert max(sources.count(source) for source in sources) <= installed_text.PER_SOURCE


def test_the_order_is_always_the_same(found):
    assert [d.id for d in documents_of("cpp", most=SOME)] == [d.id for d in found["cpp"]]


def test_prose_and_code_come_from_different_modules(found):
    prose = {d.source for d in found["prose"]}
    python = {d.source for d in found["python"]}

    assert {source.startswith("topic ") for source in prose} == {True, False}
    assert not {source.partition(".")[0] for source in prose} & {source.partition(".")[0] for source in python}
    assert not any(serves_as_prose(source) for source in python)


def test_python_has_no_docstrings_left(found):
    text = "\n".join(document.text for document in found["python"])

    assert not re.search(r'(def|class) [^\n]*:\n\s*[ru]?"""', text)


def test_cpp_has_no_licences_includes_or_generated_code(found):
    text = "\n".join(document.text for document in found["cpp"])

    assert not re.search(r"^\s*#\s*include", text, re.MULTILINE)
    assert "@generated" not in text
    assert "TORCH_STABLE_ONLY" not in text
    assert "Redistribution and use" not in text
    assert not any(d.source.startswith("ATen/ops/") for d in found["cpp"])


SOURCE = '''#!/usr/bin/env python
# Copyright somebody

"""The module."""
import os

class A:
    """Only a docstring."""

class B(A):
    r"""Two
    lines."""
    x = """no docstring"""

    async def f(self):
        "short"
        return 1

    def g(self): "on the same line"

if os:
    def h():
        """Inside a condition."""; y = 1
'''


def test_docstrings_and_opening_comments_go_and_the_code_stays():
    bare = without_docstrings(SOURCE)
    tree = ast.parse(bare)

    assert "Copyright" not in bare
    assert bare.lstrip().startswith("import os")
    assert 'x = """no docstring"""' in bare
    assert [ast.get_docstring(node) for node in installed_text.definitions(tree)] == [
        None, None, None, None, "on the same line", "Inside a condition."
    ]  # fmt: skip  # what shares its line with code is left alone


def test_every_definition_is_found_in_order():
    source = "def a():\n if x:\n  def b(): 0\n else:\n  def c(): 0\ntry:\n class d: 0\nexcept E:\n def e(): 0\nfinally:\n def f(): 0"
    names = [getattr(node, "name", "module") for node in installed_text.definitions(ast.parse(source))]

    assert names == ["module", "a", "b", "c", "d", "e", "f"]


def test_licences_includes_and_wrapping_go_from_headers():
    header = """#if !defined(TORCH_STABLE_ONLY) && !defined(TORCH_TARGET_VERSION)
// Copyright (c) somebody
// Licensed under something

/* All rights
   reserved. */
#pragma once
#include <vector>
#  include "own.h"
// A helpful comment.
int f();

#else
#error "This file should not be included when either TORCH_STABLE_ONLY or TORCH_TARGET_VERSION is defined."
#endif  // !defined(TORCH_STABLE_ONLY) && !defined(TORCH_TARGET_VERSION)
"""

    assert without_prelude(header).strip() == "// A helpful comment.\nint f();"


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("This is a sentence, and it ends as sentences do.", True),
        (">>> print(x[0])\n1.", False),
        ('expr ::= "a" | "b".', False),
        ("A heading", False),
    ],
)
def test_prose_is_told_from_examples(paragraph, expected):
    assert is_prose(paragraph) is expected


def test_tables_of_numbers_are_told_from_code():
    assert is_table("{1.25, 0x83f1, 77, 12345},\n" * 10)
    assert not is_table("int f(int x) { return x + 10; }")


def test_reading_the_headers_does_not_import_torch():
    script = (
        "import sys; from p2pfinetune.paper import installed_text; from p2pfinetune.data import partition; installed_text.documents_of('cpp', most=3000);"
        "raise SystemExit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_torch_without_headers_is_an_error_for_people(monkeypatch):
    monkeypatch.setattr(installed_text.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(TextError, match="no header files"):
        documents_of("cpp")
