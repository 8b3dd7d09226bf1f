"""Read one file as a person's folder would be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from p2pfinetune.data.documents import read_documents


class Seen(NamedTuple):
    """What the model would see of a file, and what people are told of it."""

    texts: list[str]
    sources: list[str]
    reason: str
    left_out: Mapping[str, int]
    encoding: str


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[str, bytes], Seen]:
    """Give a file's name and bytes."""

    def read(name: str, data: bytes) -> Seen:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        documents, report = read_documents([folder / name])
        (entry,) = report.entries
        sources = [document.source.removeprefix(f"{folder}/") for document in documents]
        return Seen([document.text for document in documents], sources, entry.reason, entry.left_out, entry.encoding)

    return read
