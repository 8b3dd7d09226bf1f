"""Names of files that are bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfinetune.data.documents import read_documents
from p2pfinetune.system.path_names import is_plain, shown


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"plain.txt", "plain.txt"),
        ("żółw.txt".encode(), "żółw.txt"),
        (b"caf\xe9.txt", r"caf\xe9.txt"),
        (b"two\nlines\x1b[2J", r"two\x0alines\x1b[2J"),
    ],
)
def test_a_name_is_told_whatever_bytes_it_holds(name, told):
    assert shown(Path(os.fsdecode(name))) == told
    assert shown("\ud800") == r"\ud800"
    assert is_plain(os.fsdecode(name)) == (b"\xe9" not in name)


def test_files_with_such_names_are_read_and_those_left_out_are_told(tmp_path):
    for name, data in (
        (b"caf\xe9.txt", b"some text"),
        (b"caf\xe9.bin", bytes(9)),
        (b".\xff", b"x"),
        (b"\xfe.txt", "već".encode("cp1250")),
    ):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(data)  # noqa: PTH118  # of bytes
    documents, report = read_documents([tmp_path])

    assert [document.text for document in documents] == ["some text"]
    assert "".join([*report.sentences(), *(entry.path for entry in report.entries), documents[0].source]).encode()
    assert documents[0].source.endswith(r"/caf\xe9.txt")
    assert {entry.reason for entry in report.entries} == {"", "not text", "hidden", "unknown encoding"}
