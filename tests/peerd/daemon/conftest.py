"""Daemons in this process and in processes of their own; see tests/support/daemons.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemons import Process, World


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:  # short, since a socket's path has to be
        yield World(Path(folder))


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    """Makes daemons in processes of their own, and ends what a test leaves running."""
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:
        made: list[Process] = []

        def make(kind: str = "text", **options: object) -> Process:
            made.append(Process(Path(folder), kind, **options))
            return made[-1]

        yield make
        for one in made:
            one.kill()
