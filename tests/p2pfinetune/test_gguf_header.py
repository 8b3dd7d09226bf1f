"""The head of a GGUF file is believed in nothing that the file has no room for."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from p2pfinetune.errors import ModelError
from p2pfinetune.model.gguf_header import GgufHeader, read_header
from tests.support.gguf_files import F32, Q4_1, Stored, fact, gguf, text

NORM, MATRIX = Stored("norm", (8,), F32, bytes(32)), Stored("matrix", (2, 32), Q4_1, bytes(40))
MANY = 1 << 60


def head_of(tmp_path: Path, content: bytes) -> GgufHeader:
    (tmp_path / "a.gguf").write_bytes(content)
    return read_header(tmp_path / "a.gguf")


def with_list(kind: int, count: int, behind: bytes = b"") -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("list")
    return head + struct.pack("<IIQ", 9, kind, count) + behind


def test_facts_and_tensors_are_read_and_what_is_text_is_one_printable_line(tmp_path: Path) -> None:
    facts = {
        "general.architecture": "llama",
        "general.name": "A\x1b[31m\nname",
        "n": 3,
        "yes": True,
        "words": ["a", "b"],
    }
    header = head_of(tmp_path, gguf(facts, [NORM, MATRIX]))

    assert header.facts["n"], header.facts["yes"] == (3, True)
    assert header.facts["words"] == 2
    assert header.said("general.name") == "A [31m name"
    assert header.said("n") == header.said("nowhere") == ""
    assert (header.parameters, header.kinds) == (8 + 64, {"Q4_1"})
    assert [(t.name, t.shape, t.size) for t in header.tensors] == [("norm", (8,), 32), ("matrix", (2, 32), 40)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04", "does not begin as one"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "its version is 1"),
        (gguf({}, [NORM], counts=(MANY, 0)), "claims 1,152,921,504,606,846,976 tensors"),
        (gguf({"a": 1}, [], counts=(0, MANY)), "claims 1,152,921,504,606,846,976 facts"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, MANY) + bytes(9), "claims a text of"),
        (with_list(0, MANY), "entries of a list"),
        (with_list(8, 3, struct.pack("<QQQ", 0, MANY, 0)), "it ends early"),
        (with_list(9, 1, bytes(20)), "a kind 9 that is not known"),
        (gguf({"general.alignment": 0}, []), "cannot be aligned to 0"),
        (gguf({"general.alignment": 48}, []), "cannot be aligned to 48"),
        (gguf({}, [NORM])[:-8], "ends before its tensor 'norm' does"),
        (gguf({}, [NORM._replace(shape=(MANY, MANY))]), "ends before its tensor"),
        (gguf({}, [NORM._replace(shape=())]), "has 0 dimensions"),
        (gguf({}, [NORM._replace(shape=(0,))]), "cannot have the shape"),
        (gguf({}, [MATRIX._replace(shape=(2, 31))]), "cannot have the shape"),
        (gguf({}, [NORM._replace(kind=77)]), "a kind 77 that is not known"),
        (gguf({}, [NORM._replace(begin=1)]), "does not begin at a multiple of 32"),
        (gguf({}, [NORM, NORM]), "have one name"),
        (gguf({}, [NORM, MATRIX._replace(begin=0)]), "lie in one place"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (text("a") + fact(1)), "it says 'a' twice"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text(b"\xff") + fact(1), "invalid start byte"),
    ],
)
def test_a_head_that_claims_more_than_there_is_is_refused_at_once_with_the_cause(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        head_of(tmp_path, content)
    assert "a.gguf" in str(caught.value)
    assert caught.value.hint


def test_every_beginning_of_a_file_is_refused_or_whole(tmp_path: Path) -> None:
    whole = gguf({"general.architecture": "llama", "words": ["a", "b"]}, [NORM, MATRIX])
    for length in range(0, len(whole) - 24, 7):  # the padding behind the last tensor may be missing
        with pytest.raises(ModelError):
            head_of(tmp_path, whole[:length])
    assert head_of(tmp_path, whole).tensors
